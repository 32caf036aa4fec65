"""The study's data: real code of seven languages, and parts of it that are as scarce as wanted."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

from commands import run

from blendlaw.indexed import IndexedWriter, count_tokens, read_documents, write_excerpt

LANGUAGES = ("Python", "Java", "JavaScript", "TypeScript", "C#", "Go", "Rust")
FILES = {name: name.lower().replace("#", "sharp") for name in LANGUAGES}

CHARACTERS = 14e6
"""Of each language, at most: more than the longest run sees of one."""

DOCUMENT = 32_000
"""Characters of a document, at most: of longer ones the beginning."""

WINDOW = 512
"""Tokens of a held-out document that are measured: of all documents some, of none much."""

STACK = {
    "Python": 60.40,
    "Java": 86.94,
    "JavaScript": 64.71,
    "TypeScript": 26.52,
    "C#": 44.66,
    "Go": 23.78,
    "Rust": 9.11,
}
"""GB of each language that StarCoder was trained on (arXiv 2305.06161, table 1)."""


def prepare(folder: Path, megabytes: float | None = None) -> None:
    """Code, a tokenizer, and every language as Megatron's files, in ``folder``/corpus.

    ``megabytes`` makes up so much of each language instead of fetching it.
    """
    if not (folder / "corpus" / "corpus.json").exists():
        if not (folder / "code" / "manifest.json").exists():
            more = ["--generated"] if megabytes else []
            amount = ["--megabytes", str(megabytes or 40)]
            run(folder, "blendlaw.samplecode", "code", *amount, *more)
        (folder / "taken").mkdir(exist_ok=True)
        for file in sorted((folder / "code").glob("*.jsonl")):
            rows = file.read_text(encoding="utf-8").splitlines()
            random.Random(file.name).shuffle(rows)  # packages lie one after another
            with (folder / "taken" / file.name).open("w", encoding="utf-8") as out:
                size = 0
                for row in rows:
                    text = json.loads(row)["text"][:DOCUMENT]
                    out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                    size += len(text)
                    if size > CHARACTERS:
                        break
        inputs = sorted(f"taken/{file.name}" for file in (folder / "taken").glob("*.jsonl"))
        made = ["--train-tokenizer", "--vocab-size", "1024", "--valid-share", "0.05"]
        run(folder, "blendlaw", "corpus", *inputs, "-o", "corpus", *made, "--pad", "<|pad|>")


def held_out(folder: Path, language: str) -> str:
    """A prefix of a window, anywhere, of every held-out document of ``language``."""
    prefix = folder / "parts" / f"{FILES[language]}-held-out"
    if not Path(f"{prefix}.idx").exists():
        prefix.parent.mkdir(exist_ok=True)
        documents = read_documents(folder / "corpus" / f"{FILES[language]}_valid")
        place = random.Random(language)
        with IndexedWriter(prefix, documents[0].dtype) as out:
            for document in documents:
                begin = place.randint(0, max(0, len(document) - WINDOW))
                out.add(document[begin : begin + WINDOW])
    return str(prefix.relative_to(folder))


def bytes_per_token(folder: Path, names: Iterable[str]) -> dict[str, float]:
    """Of the held-out documents."""
    languages = json.loads((folder / "corpus" / "corpus.json").read_text())["languages"]
    return {name: languages[name]["valid"]["bytes_per_token"] for name in names}


def part(folder: Path, language: str, tokens: int) -> str:
    """A prefix of documents of ``language`` with ``tokens`` in all, the last one cut.

    A smaller part is the beginning of a larger one.
    """
    prefix = folder / "parts" / f"{FILES[language]}-{tokens}"
    if not Path(f"{prefix}.idx").exists():
        prefix.parent.mkdir(exist_ok=True)
        whole = str(folder / "corpus" / f"{FILES[language]}_train")
        if (found := count_tokens(whole) or 0) < tokens:
            raise ValueError(f"{language} has {found} tokens, fewer than {tokens}")
        write_excerpt(whole, prefix, tokens)
    return str(prefix.relative_to(folder))
