"""Megabytes a second and process of ``blendlaw corpus``, beside ``tokenizers`` alone.

Both encode the same texts with the same tokenizer on one thread. The whole reads JSONL, drops
duplicates, encodes, writes; the library alone has the texts in memory and keeps the numbers. The
texts are those of ``--data FILE.jsonl``, or of this Python's standard library.

    python tests/benchmarks/corpus.py
"""

from __future__ import annotations

import json
import os
import sysconfig
import tempfile
from itertools import count
from pathlib import Path

import numpy as np
from measure import arguments, in_turn, report
from tokenizers import Tokenizer

from blendlaw.corpus.inputs import Piece
from blendlaw.corpus.options import Options
from blendlaw.corpus.prepare import prepare
from blendlaw.corpus.scan import Limits, scan

MB = 1e6


def library(most: int) -> list[str]:
    """Texts of the standard library, up to so many bytes."""
    texts: list[str] = []
    size = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        if text.strip() and size < most:
            texts.append(text)
            size += len(text.encode())
    return texts


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--data", help="JSONL with texts")
    parser.add_argument("--megabytes", type=float, default=5, help="of the standard library")
    parser.add_argument("--vocab-size", type=int, default=8000)
    given = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.data:
            rows = [json.loads(line) for line in Path(given.data).read_text().splitlines()]
            texts = list(dict.fromkeys(row["text"] for row in rows))
        else:
            texts = list(dict.fromkeys(library(int(given.megabytes * MB))))
        source = folder / "python.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        inputs = [("Python", str(source))]
        trained = prepare(inputs, folder / "first", Options(vocab_size=given.vocab_size))
        file = folder / "first" / "tokenizer.json"
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.encode_special_tokens = True
        numbers = count()

        def whole() -> None:
            done = prepare(inputs, folder / f"{next(numbers)}", Options(str(file)))
            assert done.total == trained.total

        def alone() -> None:
            tokens = 0
            for begin in range(0, len(texts), 64):
                batch = texts[begin : begin + 64]
                for one in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                    tokens += np.array(one.ids).size
            assert tokens + len(texts) == trained.total.tokens

        def first_pass() -> None:
            place = folder / f"scan-{next(numbers)}"
            place.mkdir()
            size = source.stat().st_size
            scan(0, Piece(str(source), "jsonl", "Python", size, (), 0, size), place, LIMITS)

        size = trained.total.bytes / MB
        speeds = [size / seconds for seconds in in_turn(given.repeats, whole, alone, first_pass)]
    figures = {
        "megabytes": size,
        "documents": trained.total.documents,
        "the whole, MB/s of CPU": speeds[0],
        "tokenizers alone, MB/s of CPU": speeds[1],
        "the whole as a share of tokenizers' speed": speeds[0] / speeds[1],
        "the first pass alone, MB/s of CPU": speeds[2],
    }
    report("corpus", figures, given.json)


LIMITS = Limits(max_bytes=1 << 23, strict=False)

if __name__ == "__main__":
    main()
