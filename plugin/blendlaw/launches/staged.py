"""A training command beside the plan that it is to carry out."""

from __future__ import annotations

import math

from blendlaw.files import MAX_BYTES
from blendlaw.launches.flags import Findings, Launch, error, warning
from blendlaw.launches.refused import DATA, GRAPHED, OTHERS, flag_of
from blendlaw.plan import Plan
from blendlaw.schedule import SAMPLES_TOLERANCE

LAUNCHER = "blendlaw-plan"
ROW, ROW_OF_LANGUAGE = 230, 70
"""Bytes of a row of losses.jsonl, and of what it says of each language, about as measured."""


def data(launch: Launch, plan: Plan) -> Findings:
    """The launcher takes the sources of the plan; without it Megatron needs a blend."""
    given = [flag_of(name) for name in DATA if launch.has(flag_of(name)[2:])]
    if launch.has(LAUNCHER):
        for flag in given:
            yield error(flag, "the sources are those of the plan", "leave it out")
        if not launch.has("blendlaw-dir"):
            problem = "the launcher has no folder to write to"
            yield error("--blendlaw-dir", problem, "add --blendlaw-dir run")
    elif not given:
        problem = "the command names neither the plan nor data"
        change = "add --blendlaw-plan plan.toml --blendlaw-dir run after `-m blendlaw_hooks.launch`"
        yield error("--blendlaw-plan", problem, change)
    elif len(plan.stages) > 1:
        problem = f"without it the plan's {len(plan.stages)} stages are not trained, but one blend"
        yield warning("--blendlaw-plan", problem, "start by `-m blendlaw_hooks.launch`, and add it")


def refused(launch: Launch, plan: Plan) -> Findings:
    """What the launcher refuses by name."""
    if not launch.has(LAUNCHER):
        return
    for name, (wanted, reason) in OTHERS.items():
        flag = flag_of(name)
        if launch.has(flag[2:]):
            value = launch.text(flag[2:], "True")
            if value != wanted:
                change = "leave it out" if wanted in (None, False) else f"set {flag} {wanted}"
                yield error(flag, f"it cannot go with stages: {reason}", change)
    for flag in ("cuda-graph-scope", "cuda-graph-impl"):
        if "full_iteration" in str(launch.given.get(flag, "")):
            yield error(f"--{flag}", f"full_iteration {GRAPHED}", f"leave --{flag} out")


def sequences(launch: Launch, plan: Plan) -> Findings:
    length, planned = launch.number("seq-length"), plan.run.sequence_length
    if length != planned:
        problem = f"{length}, but the plan has sequences of {planned}"
        change = f"set --seq-length {planned}, or run.sequence_length"
        yield error("--seq-length", problem, change)


def amount(launch: Launch, plan: Plan) -> Findings:
    """What the command trains on is what the plan was made for."""
    if launch.has("rampup-batch-size") or launch.has("step-batch-size-schedule"):
        return
    planned = plan.run.tokens / plan.run.sequence_length
    if launch.has("train-samples"):
        flag, samples, each = "--train-samples", launch.number("train-samples"), 1
    elif launch.has("train-iters"):
        each = launch.global_batch
        flag, samples = "--train-iters", launch.number("train-iters") * each
    else:
        return
    if abs(samples - planned) > max(1.0, SAMPLES_TOLERANCE * planned):
        told = f"{samples:,} samples, the plan's {plan.run.tokens:.4g} tokens are {planned:,.0f}"
        level = error if launch.has(LAUNCHER) else warning
        yield level(flag, told, f"set {flag} {max(1, round(planned / each))}, or run.tokens")


def validation(launch: Launch, plan: Plan) -> Findings:
    if not launch.has(LAUNCHER):
        return
    evaluates = launch.has("full-validation") or launch.number("eval-iters", 100, least=0) > 0
    if evaluates and not any(entry.valid_sources for entry in plan.mixture.values()):
        problem = "the plan has no valid_sources to evaluate on"
        yield error("--eval-iters", problem, "set --eval-iters 0, or name some in the plan")


def record(launch: Launch, plan: Plan) -> Findings:
    """losses.jsonl, a row a language that tells of all languages, stays what a refit can read."""
    if not launch.has(LAUNCHER):
        return
    count, interval = len(plan.languages), launch.number("log-interval", 100)
    steps = plan.run.tokens / plan.run.sequence_length / launch.global_batch
    size = steps / interval * count * (ROW + ROW_OF_LANGUAGE * count)
    if size > MAX_BYTES:
        problem = (
            f"losses.jsonl would come to {size / 1e6:,.0f} MB: a refit reads {MAX_BYTES / 1e6:.0f}"
        )
        enough = 10 * math.ceil(1.2 * size / MAX_BYTES * interval / 10)
        yield error("--log-interval", problem, f"set --log-interval {enough}")


def pairs(launch: Launch, plan: Plan) -> Findings:
    """The launcher masks what packed pairs must not learn, and keeps FIM from those it trains."""
    if plan.pairs is None or not plan.pairs.in_run:
        return
    own = launch.has(LAUNCHER)
    if not own and not launch.has("eod-mask-loss"):
        problem = "the last token of a packed sequence would learn the first of the next"
        yield warning("--eod-mask-loss", problem, "add --eod-mask-loss")
    if launch.has("fim-data") and not own:
        problem = "it tears packed pairs: only blendlaw's launcher keeps them whole"
        yield error("--fim-data", problem, "leave it out")
    elif launch.has("fim-data") and plan.pairs.valid_sources:
        problem = "it would tear the pairs that are validated on"
        yield error("--fim-data", problem, "leave it out, or pairs.valid_sources")


RULES = (data, refused, sequences, amount, validation, record, pairs)
