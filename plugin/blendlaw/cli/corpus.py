"""``blendlaw corpus``: source code to Megatron's files, by language."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from blendlaw.cli.common import emit, json_option, log, progress_bar, table

if TYPE_CHECKING:
    from blendlaw.corpus.result import Corpus, Part


class NamedPath(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic from 8.2
    """A language and where its texts are, ``NAME=PATH``."""

    name = "name=path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        language, _, path = str(value).partition("=")
        if not language.strip() or not path:
            self.fail(f"{value!r} is not NAME=PATH", param, ctx)
        return language, path


@click.command(name="corpus")
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=click.Path(exists=True))
@click.option(
    "--language",
    "named",
    multiple=True,
    type=NamedPath(),
    metavar="NAME=PATH",
    help="One more input, all of this language.",
)
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder to write to.")
@click.option("--tokenizer", type=click.Path(exists=True), help="A tokenizer.json to encode with.")
@click.option("--train-tokenizer", is_flag=True, help="Train one instead (byte-level BPE).")
@click.option("--vocab-size", type=int, help="Of the tokenizer to train.")
@click.option(
    "--eod", default="<|endoftext|>", show_default=True, help="The token that ends a document."
)
@click.option("--pad", help="Of the tokenizer to train: a token to pad translation pairs with.")
@click.option(
    "--valid-share", default=0.01, show_default=True, help="Of the documents, for validation."
)
@click.option(
    "--max-bytes", default=1 << 23, show_default=True, help="Larger texts are skipped, and counted."
)
@click.option("--strict", is_flag=True, help="Refuse what would be skipped.")
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one for each core]")
@json_option
def command(
    inputs: tuple[str, ...],
    named: tuple[tuple[str, str], ...],
    output: str,
    tokenizer: str | None,
    train_tokenizer: bool,
    vocab_size: int | None,
    eod: str,
    pad: str | None,
    valid_share: float,
    max_bytes: int,
    strict: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Turn source code into Megatron's .bin and .idx files, by language.

    Each INPUT is a folder of source files, a JSONL, a tarball or a source file. Killed at any
    moment, the same command goes on where it was.
    """
    if not inputs and not named:
        raise click.UsageError("give an INPUT or --language NAME=PATH.")
    if (tokenizer is None) != train_tokenizer:
        raise click.UsageError("give one of --tokenizer and --train-tokenizer.")
    if (vocab_size is not None) != train_tokenizer:
        raise click.UsageError("--train-tokenizer and --vocab-size go together.")
    if pad is not None and not train_tokenizer:
        raise click.UsageError("--pad is for --train-tokenizer.")
    from blendlaw.corpus.inputs import checked_name
    from blendlaw.corpus.options import Options
    from blendlaw.corpus.prepare import prepare

    every = [(None, path) for path in inputs]
    corpus = prepare(
        [*every, *((checked_name(name, column="--language"), path) for name, path in named)],
        output,
        Options(tokenizer, vocab_size, eod, pad, valid_share, max_bytes, strict),
        workers=workers or len(os.sched_getaffinity(0)),
        bar=progress_bar,
        say=log,
    )
    emit(corpus.to_json() if as_json else _table(corpus))
    if corpus.skipped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in corpus.skipped.items())
        log(f"skipped {sum(corpus.skipped.values()):,} texts: {reasons}")
    log(f"wrote {os.path.join(output, '')}: .bin and .idx, tokenizer.json, plan.toml, corpus.json")


def _table(corpus: Corpus) -> str:
    def row(language: str, split: str, part: Part) -> list[str]:
        ratio = "" if part.bytes_per_token is None else f"{part.bytes_per_token:.2f}"
        counts = (part.documents, part.duplicates, part.bytes, part.tokens)
        return [language, split, *(f"{count:,}" for count in counts), ratio]

    rows = [
        row(language, split, part)
        for language, parts in corpus.languages.items()
        for split, part in parts.items()
    ]
    columns = ("language", "split", "documents", "duplicates", "bytes", "tokens", "bytes/token")
    return table(columns, [*rows, row("all", "", corpus.total)])
