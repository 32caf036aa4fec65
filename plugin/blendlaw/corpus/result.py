"""What was prepared: corpus.json, and the plan to start from."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from blendlaw.errors import InputError
from blendlaw.languages import LANGUAGES

TOKENS_A_PARAMETER = 20  # of the starter plan, after Hoffmann et al.
SEQUENCE_LENGTH = 2048


@dataclass(frozen=True)
class Part:
    """A language's split: texts read, those kept and dropped, bytes and tokens of those kept.

    ``prefix`` is that of its ``.bin`` and ``.idx`` in the folder, None without documents. Tokens
    count the one that ends each document.
    """

    prefix: str | None
    files: int
    documents: int
    duplicates: int
    bytes: int
    tokens: int
    bytes_per_token: float | None


@dataclass(frozen=True)
class TokenizerUsed:
    """The tokenizer's copy beside the corpus and its hash; ``vocabulary`` is its largest id + 1."""

    file: str
    sha256: str
    vocabulary: int
    eod: str
    eod_id: int
    dtype: str
    trained: bool


@dataclass(frozen=True)
class Corpus:
    """The corpus: ``languages`` by name and split, ``total`` over all, ``skipped`` by reason."""

    languages: Mapping[str, Mapping[str, Part]]
    total: Part
    skipped: Mapping[str, int]
    tokenizer: TokenizerUsed
    valid_share: float

    def to_json(self) -> str:
        return json.dumps({"version": 1} | asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Corpus:
        """Back from ``to_json``."""
        raw = json.loads(text)
        languages = {
            name: {split: Part(**part) for split, part in parts.items()}
            for name, parts in raw["languages"].items()
        }
        used = TokenizerUsed(**raw["tokenizer"])
        return cls(languages, Part(**raw["total"]), raw["skipped"], used, raw["valid_share"])


def part(prefix: str | None, files: int, documents: int, size: int, tokens: int) -> Part:
    """A Part from its counts."""
    ratio = size / tokens if tokens else None
    return Part(prefix, files, documents, files - documents, size, tokens, ratio)


def total(parts: Iterable[Part]) -> Part:
    """The sum of parts."""
    all_parts = list(parts)
    sums = (sum(p.files for p in all_parts), sum(p.documents for p in all_parts))
    return part(None, *sums, sum(p.bytes for p in all_parts), sum(p.tokens for p in all_parts))


def slugs(languages: Iterable[str]) -> dict[str, str]:
    """A file name for each language: ``C#`` is csharp; of two alike both get a hash."""
    spelt = {}
    for name in languages:
        known = next((one for one in LANGUAGES if one.name == name), None)
        forms = [name, *(known.aliases if known else ())]
        plain = [form for form in forms if re.fullmatch(r"\w[\w-]*", form)]
        spelt[name] = re.sub(r"\W+", "-", (plain or [name])[0].casefold()).strip("-_")[:40]
    taken = Counter(spelt.values())
    return {
        name: slug
        if slug and taken[slug] == 1
        else f"{slug}-{sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
        for name, slug in spelt.items()
    }


def checked_folder(output: Path) -> None:
    """InputError if Megatron or a plan could not name files in the folder ``output``."""
    text = str(output)
    if text != text.strip() or not text.isprintable():
        problem = "Megatron cannot read prefixes in a folder of such a name"
        raise InputError(problem, value=text)


def starter_plan(corpus: Corpus, folder: Path) -> str:
    """A plan.toml of the languages that have training tokens: one epoch, proportional weights."""
    tokens = sum(parts["train"].tokens for parts in corpus.languages.values())
    lines = [
        "# Made by blendlaw corpus, to start from. Set params and tokens to those of your run;",
        "# the rest is what was counted. Prefixes are relative to where Megatron is started.",
        "",
        "[run]",
        f"params = {float(f'{tokens / TOKENS_A_PARAMETER:.2g}')!r}",
        f"tokens = {tokens}",
        f"sequence_length = {SEQUENCE_LENGTH}",
    ]
    for name, parts in corpus.languages.items():
        train, valid = parts["train"], parts["valid"]
        if not train.prefix:
            continue
        lines += [
            "",
            f"[languages.{_quoted(name)}]",
            f"sources = [{_quoted(str(folder / train.prefix))}]",
        ]
        if valid.prefix:
            lines.append(f"valid_sources = [{_quoted(str(folder / valid.prefix))}]")
        lines.append(f"unique_tokens = {train.tokens}")
        if train.bytes_per_token is not None:
            lines.append(f"bytes_per_token = {train.bytes_per_token:.6g}")
    lines += ["", "[[stages]]", 'name = "main"', f"tokens = {tokens}", 'weights = "proportional"']
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # TOML's basic strings, for printable text
