"""What came of the demo's run: its own fit, allocation and blend, and predicted beside measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from blendlaw.allocation import Allocation, allocate
from blendlaw.blend import blend, write_blend
from blendlaw.demo.tour import can_report
from blendlaw.errors import InputError
from blendlaw.files import read_text, write_atomically
from blendlaw.fitted import Fit
from blendlaw.plan import Plan, read_plan
from blendlaw.plugins import blend_formats
from blendlaw.report.outcome import Result, outcomes
from blendlaw.report.training import TrainingRun, read_run

CAVEAT = (
    "A demonstration of how the parts work together: a run of this size, of a few files of each "
    "language, is no evidence for any weights."
)


@dataclass(frozen=True)
class Outcome:
    """The run in ``folder``: ``weights`` by stage, ``epochs`` at its end, and, by language, the
    losses at its end that the fit of stage ``guided`` had ``predicted``, beside those ``measured``.

    ``blends`` has the mean loss that the fit predicted when it decided, for the weights that it
    chose and for others; ``error`` is the mean of |predicted ÷ measured − 1|. ``generated`` says
    that the code was made up.
    """

    folder: str
    generated: bool
    params: float
    tokens: float
    split: str
    law: str
    guided: str
    weights: Mapping[str, Mapping[str, float]]
    epochs: Mapping[str, float]
    predicted: Mapping[str, float]
    measured: Mapping[str, float]
    error: float
    blends: Mapping[str, float]
    seconds: dict[str, float]


def tell(folder: Path, seconds: dict[str, float]) -> Outcome:
    """The outcome of the run in ``folder``; writes its fit.json, allocation.json and blend.json.

    They are those of the last stage that a fit decided. Raises InputError if none was.
    """
    run, plan = read_run(folder), read_plan(folder / "plan.toml")
    if isinstance(run.fit, str) or run.guided is None or run.guided.fit is None:
        why = run.records[-1].reason if run.records else "no stage was decided"
        raise InputError(f"{run.fit}: {why}", file=folder / "schedule.jsonl")
    write_atomically(folder / "fit.json", read_text(folder / run.guided.fit))
    stage = plan.stage(run.guided.stage)
    allocation = _allocation(run, plan, run.fit)
    write_atomically(folder / "allocation.json", allocation.to_json())
    made = blend(plan, run.guided.weights, stage.tokens)
    write_blend(made, folder / "blend.json", blend_formats()["per-split-json"])
    found = outcomes(run)
    if isinstance(found, str):
        raise InputError(found, file=folder / "losses.jsonl")
    predicted, measured = _losses(found[0].results)
    return Outcome(
        folder=str(folder),
        generated=(folder / "code" / "generated" / "manifest.json").exists(),
        params=plan.run.params,
        tokens=plan.run.tokens,
        split=found[0].split or "",
        law=run.fit.law,
        guided=stage.name,
        weights={record.stage: record.weights for record in run.records},
        epochs=run.epochs,
        predicted=predicted,
        measured=measured,
        error=found[0].mean,
        blends=_means(allocation),
        seconds=seconds,
    )


def compared(outcome: Outcome) -> str:
    """What the fit promised for its weights and for uniform ones, and whether that can be seen."""
    ours, uniform = outcome.blends["allocated"], outcome.blends["uniform"]
    gain = 1 - ours / uniform
    seen = "less" if abs(gain) < outcome.error else "more"
    return (
        f"For stage {outcome.guided} the fit promised a mean loss of {ours:.4f} with the weights "
        f"it chose, {uniform:.4f} with uniform ones. These are {100 * gain:.2f}% apart, {seen} "
        f"than the {100 * outcome.error:.2f}% by which its predictions came out wrong."
    )


def draw(outcome: Outcome) -> None:
    """The run's report.html, if the extra that draws it is installed.

    Without the fit's own figures: they are of many runs, and this is one.
    """
    if not can_report():
        return
    from blendlaw.report.page import render

    folder = Path(outcome.folder)
    run = read_run(folder)
    page = render(run=replace(run, notes=(*run.notes, CAVEAT, compared(outcome))))
    write_atomically(folder / "report.html", page)


def _allocation(run: TrainingRun, plan: Plan, fit: Fit) -> Allocation:
    """That of the stage which ``fit`` decided, as it was decided then, beside other weights."""
    assert run.guided is not None
    stage = plan.stage(run.guided.stage)
    for record in run.records[: run.records.index(run.guided)]:
        plan = plan.after(plan.stage(record.stage), record.weights)
    return allocate(fit, params=plan.run.params, tokens=stage.tokens, plan=plan)


def _losses(results: tuple[Result, ...]) -> tuple[dict[str, float], dict[str, float]]:
    known = [one for one in results if one.error is not None]
    predicted = {one.language: one.predicted for one in known if one.predicted is not None}
    return predicted, {one.language: one.measured for one in known if one.measured is not None}


def _means(allocation: Allocation) -> dict[str, float]:
    """The mean loss predicted under each blend."""
    found = {}
    for name, losses in allocation.predicted.items():
        known = [loss for loss in (losses or {}).values() if loss is not None]
        if known:
            found[name] = fmean(known)
    return found
