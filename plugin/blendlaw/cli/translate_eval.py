"""``blendlaw translate-eval``: what a checkpoint of the trainer translates, by direction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from blendlaw.cli.common import json_option, log, output_option, show, table
from blendlaw.errors import InputError

if TYPE_CHECKING:
    from blendlaw.pairs.translation import Score, Translation
    from blendlaw.plan import Plan


@click.command(name="translate-eval")
@click.argument("plan", type=click.Path(exists=True, dir_okay=False))
@click.argument("inputs", nargs=-1, required=True, metavar="TASKS...")
@click.option("--dir", "folder", required=True, type=click.Path(exists=True), help="Of the run.")
@click.option("--step", type=click.IntRange(1), help="Of the checkpoint.  [default: the newest]")
@click.option("--strategy", type=click.Choice(["direct", "prompt"]), help="How pairs are rendered.")
@click.option("--tokenizer", type=click.Path(exists=True), help="Instead of [pairs.build]'s.")
@output_option
@json_option
def command(
    plan: str,
    inputs: tuple[str, ...],
    folder: str,
    step: int | None,
    strategy: str | None,
    tokenizer: str | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Mean -log P(translation | program) of a trainer's checkpoint, in every direction.

    TASKS are held-out parallel programs: a JSONL, or a folder of files with equal stems. Directions
    that the plan's pairs train are told apart from the others. Intervals (90%) resample tasks.
    """
    from blendlaw.pairs.coder import read_padded
    from blendlaw.pairs.documents import read_documents
    from blendlaw.pairs.translation import translation
    from blendlaw.plan import read_plan

    read = read_plan(plan)
    build = None if read.pairs is None else read.pairs.build
    if tokenizer is None and build is None:
        raise InputError("the plan has no [pairs.build] that tells the tokenizer: --tokenizer")
    eod, pad = (build.eod, build.pad) if build else ("<|endoftext|>", "<|pad|>")
    if strategy is None:
        strategy = build.strategy if build and build.strategy != "shuffled" else "prompt"
    documents = read_documents(
        inputs,
        tuple(read.languages),
        read_padded(tokenizer or (build.tokenizer if build else ""), eod, pad),
        strategy,
        read.run.sequence_length,
    )
    if documents.too_long:
        log(f"left out {documents.too_long:,} pairs longer than {read.run.sequence_length} tokens")
    import numpy as np

    with TemporaryDirectory() as scratch:
        documents.save(Path(scratch, "documents.npz"))
        _score(plan, folder, step, Path(scratch))
        scores = np.load(Path(scratch, "scores.npy"))
    at, nats = int(scores[0]), scores[1:]
    samples = at * read.trainer.global_batch
    found = translation(
        documents,
        nats,
        _trained(read),
        run=Path(folder).resolve().name,
        step=at,
        params=read.run.params,
        tokens=samples * read.run.sequence_length,
        strategy=strategy,
    )
    show(_table(found), found.to_json(), output, as_json)


def _score(plan: str, folder: str, step: int | None, scratch: Path) -> None:
    """By a process of its own: this package never imports torch."""
    command = [sys.executable, "-m", "blendlaw_hooks.scoring", plan, "--dir", folder]
    command += [] if step is None else ["--step", str(step)]
    command += [str(scratch / "documents.npz"), str(scratch / "scores.npy")]
    ended = subprocess.run(command, check=False).returncode
    if ended:
        raise InputError(f"the scoring ended with status {ended}: see above")


def _trained(plan: Plan) -> set[tuple[str, str]]:
    """The directions that the pairs of ``plan`` are trained on."""
    from blendlaw.pairs.directions import direction_name
    from blendlaw.pairs.segments import read_pair_set

    found: set[tuple[str, str]] = set()
    for source in plan.pairs.sources if plan.pairs else ():
        about = read_pair_set(source.prefix)
        found |= {d for d in about.directions if about.direction_tokens.get(direction_name(*d))}
    return found


def _table(found: Translation) -> str:
    from blendlaw.pairs.translation import name_of, shown

    def row(name: str, score: Score, trained: str) -> list[str]:
        return [name, trained, shown(score), f"{score.pairs:,}", f"{score.tokens:,}"]

    rows = [
        row(name_of(one), one.score, "trained" if one.trained else "")
        for one in sorted(found.directions, key=lambda one: (not one.trained, name_of(one)))
    ]
    for name, score in (("all trained", found.trained), ("all untrained", found.untrained)):
        if score is not None:
            rows.append(row(name, score, ""))
    title = f"step {found.step} of {found.run}, {found.tasks} tasks, nats/token of the target"
    return table(("direction", "", "loss [90%]", "pairs", "tokens"), rows, title)
