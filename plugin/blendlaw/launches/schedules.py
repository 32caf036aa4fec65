"""How long a command trains, at what rates, how it shards its optimizer, and what it reads.

All of it is asserted by validate_args of Megatron-LM's ``megatron/training/arguments.py``.
"""

from __future__ import annotations

from blendlaw.launches.flags import Findings, Launch, error, warning
from blendlaw.launches.parallel import SHARDED

DISTRIBUTED = "--use-distributed-optimizer"


def duration(launch: Launch) -> Findings:
    """Iterations or samples, and the rate's decay and warmup in the same unit."""
    iterations, samples = launch.has("train-iters"), launch.has("train-samples")
    if iterations and samples:
        yield error("--train-samples", "it cannot go with --train-iters", "leave one of them out")
        return
    elsewhere = launch.has("skip-train") or any(flag.startswith("retro-") for flag in launch.given)
    if not iterations and not samples and not elsewhere:
        yield error("--train-iters", "nothing says how long to train", "add --train-iters N")
        return
    own, other = ("iters", "samples") if iterations else ("samples", "iters")
    for flag in ("lr-decay", "lr-warmup"):
        if launch.has(f"{flag}-{other}") and launch.text(f"{flag}-{other}") != "0":
            problem = f"it cannot go with --train-{own}"
            yield error(f"--{flag}-{other}", problem, f"set --{flag}-{own} instead")
    if launch.has("lr-warmup-fraction") and launch.has(f"lr-warmup-{own}"):
        problem = f"it cannot go with --lr-warmup-{own}"
        yield error("--lr-warmup-fraction", problem, "leave one of them out")


def rampup(launch: Launch) -> Findings:
    """Gone from the assertions of 0.18 and later."""
    old = launch.megatron is None or launch.megatron < (0, 18)
    if launch.has("rampup-batch-size") and launch.has("train-iters") and old:
        problem = "before Megatron 0.18 it cannot go with --train-iters"
        level = error if launch.megatron is not None else warning
        yield level("--rampup-batch-size", problem, "set --train-samples in place of --train-iters")


def rate(launch: Launch) -> Findings:
    if launch.has("lr") and launch.has("min-lr"):
        rate, least = launch.real("lr"), launch.real("min-lr")
        if least > rate:
            yield error(
                "--min-lr", f"{least:g} is above --lr {rate:g}", f"set --min-lr {rate / 10:g}"
            )


def types(launch: Launch) -> Findings:
    if launch.has("bf16") and launch.has("fp16"):
        yield error("--fp16", "it cannot go with --bf16", "leave it out")


def saving(launch: Launch) -> Findings:
    if launch.has("save") and not launch.has("save-interval"):
        problem = "there is no --save-interval"
        yield error("--save", problem, "add --save-interval 1000")


def sharding(launch: Launch) -> Findings:
    """From 0.18 on, the optimizer dist_muon shards too."""
    distributed = any(launch.has(flag) for flag in (DISTRIBUTED[2:], *SHARDED))
    distributed = distributed or launch.text("optimizer", "adam").startswith("dist")
    if launch.has("overlap-param-gather"):
        if not distributed:
            problem = "parameters are gathered only by the distributed optimizer"
            yield error("--overlap-param-gather", problem, f"add {DISTRIBUTED}")
        if not launch.has("overlap-grad-reduce"):
            problem = "it needs --overlap-grad-reduce"
            yield error("--overlap-param-gather", problem, "add --overlap-grad-reduce")
    if launch.has("fp8-param-gather") and not distributed:
        problem = "parameters are gathered only by the distributed optimizer"
        yield error("--fp8-param-gather", problem, f"add {DISTRIBUTED}")


def data(launch: Launch) -> Findings:
    kinds = {
        "--mock-data": ("mock-data",),
        "--data-path": ("data-path", "data-args-path"),
        "--per-split-data-args-path": (
            "train-data-path",
            "valid-data-path",
            "test-data-path",
            "per-split-data-args-path",
        ),
    }
    given = [kind for kind, flags in kinds.items() if any(launch.has(flag) for flag in flags)]
    if len(given) > 1:
        yield error(given[0], f"it cannot go with {given[1]}", "leave one of them out")


RULES = (duration, rampup, rate, types, saving, sharding, data)
