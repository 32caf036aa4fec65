"""The tour: the paper's 420 runs and its synergy table to a blend file and a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

from blendlaw.allocation import Allocation, allocate
from blendlaw.blend import blend, write_blend
from blendlaw.data import code7
from blendlaw.files import write_atomically
from blendlaw.fitted import Fit
from blendlaw.fitting import fit
from blendlaw.observations import Observation, read_observations
from blendlaw.pair_runs import read_pairs_table
from blendlaw.plan import Plan, read_plan
from blendlaw.plugins import blend_formats
from blendlaw.policies import within_limits
from blendlaw.rows import read_rows
from blendlaw.synergy import Synergy, measure_synergy
from blendlaw.where import parse

HOLDOUT = "tokens>=6.4e10"
PAPER = "paper's guided split"
FILES = ("fit.json", "synergy.json", "allocation.json", "blend.json", "plan.toml", "report.html")


@dataclass(frozen=True)
class Tour:
    """What the tour found: ``judged`` are fits without the held-out runs, by law; ``fitted`` is
    the chosen law on all runs; the two allocations are without and with transfer."""

    observations: list[Observation]
    judged: dict[str, Fit]
    fitted: Fit
    transfer: Synergy
    alone: Allocation
    allocation: Allocation
    plan: Plan


def tour(folder: Path, bootstrap: int, progress: Callable[[int, int], None] | None = None) -> Tour:
    """Fit, allocate and write ``FILES`` into ``folder``, which is made if need be; the report
    where the extra ``report`` is installed."""
    from blendlaw.report.page import render

    folder.mkdir(parents=True, exist_ok=True)
    plan_text = (files("blendlaw.data") / "code7" / "plan.toml").read_text()
    write_atomically(folder / "plan.toml", plan_text)
    plan = read_plan(folder / "plan.toml")

    observations = read_observations(code7("losses"))
    held = parse(HOLDOUT)
    chosen = fit(observations, "auto", holdout=held)
    judged = {chosen.law: chosen}
    if chosen.law != "chinchilla":
        judged["chinchilla"] = fit(observations, "chinchilla", holdout=held)
    fitted = fit(observations, chosen.law, bootstrap=bootstrap, progress=progress)
    fitted = replace(fitted, selection=chosen.selection)
    pairs = measure_synergy(read_pairs_table(code7("synergy")))
    helped = replace(fitted, **pairs.worth())
    size, tokens = plan.run.params, plan.run.tokens
    guided = {PAPER: paper_weights()}
    alone = allocate(fitted, params=size, tokens=tokens, plan=plan, compare=guided)
    allocation = allocate(helped, params=size, tokens=tokens, plan=plan, compare=guided)
    made = blend(plan, within_limits(plan, plan.stages[0], allocation.weights), tokens)

    write_atomically(folder / "fit.json", helped.to_json())
    write_atomically(folder / "synergy.json", pairs.to_json())
    write_atomically(folder / "allocation.json", allocation.to_json())
    write_blend(made, folder / "blend.json", blend_formats()["per-split-json"])
    if can_report():
        page = render(
            observations=observations,
            fit=helped,
            synergy=pairs,
            allocation=allocation,
            weights={"without transfer": alone.weights, **guided},
        )
        write_atomically(folder / "report.html", page)
    return Tour(observations, judged, fitted, pairs, alone, allocation, plan)


def done(folder: Path) -> bool:
    """Whether the tour has been made in ``folder``; its report is written last."""
    return all((folder / name).exists() for name in FILES if can_report() or "html" not in name)


def can_report() -> bool:
    """Whether the extra that draws the report is installed."""
    return all(find_spec(package) is not None for package in ("matplotlib", "jinja2"))


def paper_weights() -> dict[str, float]:
    """The weights of the paper's guided model, from its Figure 5."""
    tokens = {
        row["language"]: float(row["guided_tokens"])
        for _, row in read_rows(code7("allocation"), lambda columns: None)
    }
    return {language: count / sum(tokens.values()) for language, count in tokens.items()}


def mean_loss(losses: Mapping[str, float | None] | None) -> float:
    """The mean over languages; every loss of the tour is finite."""
    assert losses is not None
    return fmean(loss for loss in losses.values() if loss is not None)
