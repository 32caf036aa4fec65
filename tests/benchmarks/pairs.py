"""Megabytes a second and process of ``blendlaw pairs build``, beside ``tokenizers`` alone.

The whole reads JSONL, looks for duplicates and leaks, renders, encodes, packs and writes. The
library alone has the very documents in memory, rendered, encodes them with the same tokenizer on
one thread, and keeps the numbers. Speeds are of the rendered text on both sides. ``one way`` has
each program in one document, ``all`` in a dozen: the whole encodes it once.

    python tests/benchmarks/pairs.py
"""

from __future__ import annotations

import json
import os
import sysconfig
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from measure import arguments, in_turn, report
from tokenizers import Tokenizer

from blendlaw.corpus.options import Options
from blendlaw.corpus.prepare import prepare
from blendlaw.pairs import Pair
from blendlaw.pairs.build import build
from blendlaw.pairs.options import Build
from blendlaw.pairs.render import render_pair
from blendlaw.plan import LanguagePlan, Plan, Run, Stage
from blendlaw.samplecode.dialects import DIALECTS

MB = 1e6
LANGUAGES = tuple(DIALECTS)
DIRECTIONS = {
    "one way": {"Python->Java": 1.0},
    "there and back": {"Python->Java": 1.0, "Java->Python": 1.0},
    "pivot": {
        f"{a}->{b}": 1.0 for a in LANGUAGES for b in LANGUAGES if a != b and "Python" in (a, b)
    },
}


def programs(most: float, count: int) -> list[dict[str, str]]:
    """Real functions and classes of the standard library, cut at blank lines, as if translated."""
    pieces: list[str] = []
    size = 0
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py")):
        if "test" in path.parts or "site-packages" in path.parts:
            continue
        for piece in path.read_text(encoding="utf-8", errors="ignore").split("\n\n\n"):
            if 200 < len(piece) < 12_000 and size < most * MB:
                pieces.append(piece)
                size += len(piece.encode())
    tasks = zip(*[iter(pieces)] * count, strict=False)
    return [dict(zip(LANGUAGES, task, strict=False)) for task in tasks]


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--megabytes", type=float, default=5, help="of programs")
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--near-duplicates", type=float, default=0.85, help="0: not looked for")
    parser.add_argument("--length", type=int, default=4096, help="tokens of a sequence")
    given = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for title, weights in DIRECTIONS.items():
            tasks = programs(given.megabytes, 7 if title == "pivot" else 2)
            figures |= measured(title, weights, tasks, folder, given)
    report("pairs", figures, given.json)


def measured(
    title: str, weights: dict[str, float], tasks: list[dict[str, str]], folder: Path, given: Any
) -> dict[str, Any]:
    file = folder / "tokenizer" / "tokenizer.json"
    if not file.exists():
        code = folder / "python.jsonl"
        texts = (text for task in tasks for text in task.values())
        code.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        options = Options(vocab_size=given.vocab_size, pad="<|pad|>")
        prepare([("Python", str(code))], file.parent, options)
    source = folder / f"{title}.jsonl"
    rows = ({"id": f"{number}", "docs": docs} for number, docs in enumerate(tasks))
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = Plan(
        Run(1e6, 1e6, given.length),
        {name: LanguagePlan() for name in LANGUAGES},
        (Stage("main", 1e6, "uniform"),),
    )
    wanted = Build(
        (str(source),), str(file), directions=weights, both=False, valid_share=0.0,
        too_long="truncate", near_duplicates=given.near_duplicates,
    )  # fmt: skip
    numbers = count()

    def whole() -> None:
        built = build(plan, wanted, folder / f"{title}-{next(numbers)}")
        assert built is not None
        counts.append(built.counts)

    rendered: list[str] = []
    counts: list[Any] = []
    whole()
    kept = [json.loads(line) for line in next(folder.glob(f"{title}-0.manifest.jsonl")).open()]
    for row in kept:
        if row["fate"] != "train":
            continue
        docs = tasks[int(row["id"])]
        for direction in weights:
            a, b = direction.split("->")
            text = render_pair(Pair(row["id"], a, b, docs[a], docs[b]))
            assert text is not None
            rendered.append(text)
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.encode_special_tokens = True

    def alone() -> None:
        tokens = 0
        for begin in range(0, len(rendered), 64):
            batch = rendered[begin : begin + 64]
            for one in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                tokens += np.array(one.ids, np.uint16).size
        assert tokens

    size = sum(len(text.encode()) for text in rendered) / MB
    seconds = in_turn(given.repeats, whole, alone)
    split = counts[0].splits["train"]
    assert split.documents == len(rendered)
    return {
        f"{title}: megabytes rendered": size,
        f"{title}: documents": len(rendered),
        f"{title}: the whole, MB/s of CPU": size / seconds[0],
        f"{title}: tokenizers alone, MB/s of CPU": size / seconds[1],
        f"{title}: the whole, times tokenizers' time": seconds[0] / seconds[1],
        f"{title}: slots filled": split.filled,
    }


if __name__ == "__main__":
    main()
