"""``blendlaw convert``: TensorBoard logs, CSV or JSONL to checked observations."""

from __future__ import annotations

from pathlib import Path

import click

from blendlaw.cli.common import Skipped, emit, log, output_option
from blendlaw.errors import InputError
from blendlaw.observations import (
    Observation,
    distinct,
    format_observations,
    read_observations,
)
from blendlaw.rows import JSONL_SUFFIXES
from blendlaw.tensorboard import is_tensorboard, read_tensorboard
from blendlaw.weights import read_weights
from blendlaw.where import parse, select


@click.command(name="convert")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--pattern", help="Tags to read from TensorBoard, e.g. 'lm loss/{language}'.")
@click.option("--params", type=float, help="Parameters of the model that TensorBoard logs.")
@click.option("--tokens-per-step", type=float, help="Training tokens of one step of those logs.")
@click.option("--tokens-tag", help="Instead: the tag of the training tokens seen so far.")
@click.option(
    "--weights",
    type=click.Path(),
    help="JSON, language to weight: what the logged runs saw of each language.",
)
@click.option("--where", help="Only these, e.g. 'tokens>=4e9 and language!=Go'.")
@click.option("--skip-bad", is_flag=True, help="Skip bad rows, and show them, instead of refusing.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "jsonl"]),
    help="Of the output; by the suffix of -o, else csv.",
)
@output_option
def command(
    paths: tuple[str, ...],
    pattern: str | None,
    params: float | None,
    tokens_per_step: float | None,
    tokens_tag: str | None,
    weights: str | None,
    where: str | None,
    skip_bad: bool,
    kind: str | None,
    output: str | None,
) -> None:
    """Turn TensorBoard logs, CSV or JSONL into one checked file of observations.

    Each PATH is a file of observations (- is stdin), a TensorBoard event file or a folder of them.
    """
    for_logs = (pattern, params, tokens_per_step, tokens_tag, weights)
    if any(option is not None for option in for_logs) and not any(map(is_tensorboard, paths)):
        raise click.UsageError(
            "--pattern, --params, --tokens-per-step, --tokens-tag and --weights are for "
            "TensorBoard logs, and no PATH is one."
        )
    seen = None if weights is None else read_weights(weights)
    found: list[Observation] = []
    chosen = None if where is None else parse(where)
    skipped = Skipped(skip_bad)
    try:
        for path in paths:
            if not is_tensorboard(path):
                found += read_observations(path, skip_bad=skip_bad, on_bad=skipped)
            elif (
                pattern is None
                or params is None
                or (tokens_per_step is None) == (tokens_tag is None)
            ):
                raise click.UsageError(
                    f"{path} is a TensorBoard log: give --pattern, --params, and one of "
                    "--tokens-per-step and --tokens-tag."
                )
            else:
                found += read_tensorboard(
                    path,
                    pattern=pattern,
                    params=params,
                    tokens_per_step=tokens_per_step,
                    tokens_tag=tokens_tag,
                    weights=seen,
                    on_bad=skipped,
                    say=log,
                )
    finally:
        skipped.say_how_many()
    found = distinct(found)
    if chosen is not None:
        found = select(found, chosen)
        if not found:
            raise InputError(f"no observation is left by --where {where}")
    if kind is None:
        kind = "jsonl" if output and Path(output).suffix.lower() in JSONL_SUFFIXES else "csv"
    emit(format_observations(found, kind), output)
    log(f"{len(found):,} observations of {len({o.language for o in found}):,} languages")
