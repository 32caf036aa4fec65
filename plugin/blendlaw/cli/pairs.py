"""``blendlaw pairs``: translation pairs to packed sequences for Megatron."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import click

from blendlaw.cli.common import emit, json_option, log, progress_bar, table

if TYPE_CHECKING:
    from blendlaw.pairs.result import Built


class ShardOf(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic from 8.2
    """One of n shards, counted from 0: ``i/n``."""

    name = "i/n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        one, _, of = str(value).partition("/")
        if not (one.isdecimal() and of.isdecimal() and int(one) < int(of)):
            self.fail(f"{value!r} is not i/n with i from 0 to n - 1", param, ctx)
        return int(one), int(of)


@click.group(name="pairs")
def command() -> None:
    """Build translation pairs into a corpus: packed, none ever cut."""


@command.command(name="build")
@click.argument("plan", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "--output", required=True, metavar="PREFIX", help="Of the files to write.")
@click.option(
    "--strategy",
    type=click.Choice(["shuffled", "direct", "prompt"]),
    help="Instead of the plan's.",
)
@click.option(
    "--shard", type=ShardOf(), help="Only this part, from 0/n; `pairs merge` puts them together."
)
@click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one for each core]")
@json_option
def build_command(
    plan: str,
    output: str,
    strategy: Literal["shuffled", "direct", "prompt"] | None,
    shard: tuple[int, int] | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Build what [pairs.build] of PLAN says into PREFIX_train and PREFIX_valid.

    Killed at any moment, the same command goes on where it was.
    """
    from blendlaw.pairs.build import build, read_build

    read, options = read_build(plan)
    if strategy is not None:
        options = replace(options, strategy=strategy)
    crew = workers or len(os.sched_getaffinity(0))
    built = build(read, options, output, workers=crew, shard=shard, bar=progress_bar)
    if built is None:
        assert shard is not None
        log(f"built shard {shard[0]}/{shard[1]} in {output}.work: blendlaw pairs merge -o {output}")
    else:
        _show(built, output, as_json)


@command.command(name="merge")
@click.option("-o", "--output", required=True, metavar="PREFIX", help="That of the shards.")
@json_option
def merge_command(output: str, as_json: bool) -> None:
    """Put together what `pairs build --shard` built: the same as one run would have written."""
    from blendlaw.pairs.merge import merge

    _show(merge(output, bar=progress_bar), output, as_json)


def _show(built: Built, prefix: str, as_json: bool) -> None:
    emit(built.to_json() if as_json else _tables(built))
    dropped = {
        name: n for name, n in built.counts.fates.items() if n and name not in ("train", "valid")
    }
    for name, count in dropped.items():
        log(f"dropped {count:,} tasks: {name}")
    for name, split in built.counts.splits.items():
        for what, counts in (("dropped", split.too_long), ("truncated", split.truncated)):
            if counts:
                log(f"{what} {sum(counts.values()):,} {name} documents longer than a sequence")
    log(f"wrote {prefix}_train, {prefix}_valid: .bin, .idx, .segments.npy, .pairs.json")
    log(f"wrote {prefix}.manifest.jsonl, {prefix}.build.json")


def _tables(built: Built) -> str:
    splits = built.counts.splits
    shares = [
        [
            name,
            f"{built.counts.fates[name]:,}",
            f"{split.documents:,}",
            f"{split.sequences:,}",
            f"{split.slots - split.padding:,}",
            f"{100 * split.filled:.2f}%",
            f"{split.fill_documents:,}",
        ]
        for name, split in splits.items()
    ]
    names = list(dict.fromkeys(name for split in splits.values() for name in split.pairs))
    pairs = [
        [name, *(f"{split.pairs.get(name, 0):,}" for split in splits.values())] for name in names
    ]
    languages = [
        [name, *(f"{split.tokens[name]:,}" for split in splits.values())]
        for name in splits["train"].tokens
    ]
    columns = ("split", "tasks", "documents", "sequences", "tokens", "filled", "from fill")
    parts = [table(columns, shares)]
    if pairs:
        parts.append(table(("pairs", *splits), pairs))
    return "\n".join([*parts, table(("tokens", *splits), languages)])
