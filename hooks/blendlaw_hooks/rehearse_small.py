"""A run small enough for a CPU that goes through all that a large one does.

``shrink`` makes the flags of a command small, and says what it changed; ``planned`` a plan. Started
by rehearse.py under torchrun, the module trains by them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blendlaw.errors import InputError
from blendlaw.indexed import write_excerpt
from blendlaw.launches.flags import Launch
from blendlaw.plan import Plan, read_plan
from blendlaw.plan_sources import Source
from blendlaw.run_folder import errors_said
from blendlaw.trainer_plan import Shape

SEQUENCE, BATCH = 128, 8
LAYERS_OF_STAGE, HIDDEN, HEADS, GROUPS, FFN = 2, 64, 4, 2, 128
STEPS_OF_STAGE = 16
MEASURE = 4  # steps: as often as a law needs before a stage is decided
TRAIN_TOKENS, VALID_TOKENS = 100_000, 1_200  # of each source; a batch is 1,024

LEFT_OUT = (
    *("fp16", "fp8-", "fp4-", "first-last-layers-bf16", "num-layers-at-"),
    *("context-parallel-size", "hierarchical-context-parallel-sizes", "cp-comm-type"),
    *("tp-comm-", "cross-entropy-", "attention-backend", "use-flash-attn", "transformer-impl"),
    *("use-precision-aware-optimizer", "main-grads-dtype", "main-params-dtype", "exp-avg-"),
    *("cuda-graph-", "enable-cuda-graph", "nccl-", "use-nccl-ub", "high-priority-stream-"),
    *("num-layers-per-virtual-", "num-virtual-stages-", "decoder-first-", "decoder-last-"),
    *("pipeline-model-parallel-layout", "account-for-", "kv-channels", "rampup-batch-size"),
    *("train-samples", "lr-warmup-", "lr-decay-iters", "lr-decay-samples", "lr-wsd-decay-samples"),
    *("load", "async-save", "ckpt-assume-constant-structure", "wandb-", "data-cache-path"),
)
"""Flags, or what they begin with, that want CUDA, or belong to the size or place of the run."""


@dataclass(frozen=True)
class Small:
    """``flags`` of the small run by name, its ``ranks``, and what was ``changed``, in words."""

    flags: Mapping[str, tuple[str, ...]]
    ranks: int
    changed: tuple[str, ...]


def shrink(launch: Launch, stages: int, out: Path) -> Small:
    """``launch`` for a run of so many stages that writes to ``out``.

    Each kind of parallelism that there is stays, by two ranks. Raises Open and InputError where the
    layout of ``launch`` is not told.
    """
    tensor, pipeline = min(2, launch.tensor), min(2, launch.pipeline)
    data = min(2, launch.data_parallel)
    steps = stages * STEPS_OF_STAGE
    wanted: dict[str, int | str] = {
        "num-layers": pipeline * LAYERS_OF_STAGE,
        "hidden-size": HIDDEN,
        "ffn-hidden-size": FFN,
        "num-attention-heads": HEADS,
        "seq-length": SEQUENCE,
        "max-position-embeddings": SEQUENCE,
        "micro-batch-size": 1,
        "global-batch-size": BATCH,
        "train-iters": steps,
        "lr": "3e-3",
        "lr-warmup-iters": 2,
        "log-interval": MEASURE,
        "eval-interval": MEASURE,
        "num-workers": min(1, launch.number("num-workers", 2, least=0)),
        "data-cache-path": str(out / "cache"),
    }
    if tensor > 1:
        wanted["tensor-model-parallel-size"] = tensor
    if pipeline > 1:
        wanted["pipeline-model-parallel-size"] = pipeline
    if launch.has("group-query-attention"):
        wanted["num-query-groups"] = GROUPS
    if launch.text("lr-decay-style", "") == "WSD":
        wanted["lr-wsd-decay-iters"] = STEPS_OF_STAGE // 2
    if launch.has("save"):
        wanted |= {"save": str(out / "checkpoints"), "save-interval": steps // 2}
    if launch.has("tensorboard-dir"):
        wanted["tensorboard-dir"] = str(out / "tensorboard")
    if not launch.has("full-validation") and launch.number("eval-iters", 100, least=0):
        wanted["eval-iters"] = 2
    given = launch.given
    kept = {name: values for name, values in given.items() if not _left_out(name)}
    changed = [
        f"--{name} {' '.join(given.get(name, ('not given',)))} → {value}"
        for name, value in wanted.items()
        if given.get(name) != (str(value),)
    ]
    gone = [f"--{name}" for name in given if name not in kept and name not in wanted]
    if gone:
        changed.append(f"left out: {' '.join(gone)}")
    flags = kept | {name: (str(value),) for name, value in wanted.items()}
    return Small(flags, tensor * pipeline * data, tuple(changed))


def _left_out(name: str) -> bool:
    return any(name.startswith(part) if part[-1] == "-" else name == part for part in LEFT_OUT)


def words(flags: Mapping[str, tuple[str, ...]]) -> list[str]:
    """``flags`` by name as a command line has them."""
    return [word for name, values in flags.items() for word in (f"--{name}", *values)]


def planned(plan: Plan, flags: Mapping[str, tuple[str, ...]], out: Path) -> Plan:
    """``plan`` for the small run: its tokens, and unique ones as many times fewer.

    So limits of epochs hold the same weights. Sources are excerpts of the plan's, in ``out``.
    ``refit.where`` is left out, since it speaks of the large run's steps and tokens, and so are
    translation pairs, whose sequences cannot be made shorter.
    """
    stages = len(plan.stages)
    tokens = BATCH * STEPS_OF_STAGE * SEQUENCE
    less = tokens * stages / plan.run.tokens
    vocabulary = int(flags.get("vocab-size", ("50000",))[0])
    shape = Shape(int(flags["num-layers"][0]), HIDDEN, HEADS, FFN, vocabulary)
    languages = {
        name: replace(
            language,
            sources=_excerpts(language.sources, out),
            valid_sources=_excerpts(language.valid_sources, out),
            test_sources=_excerpts(language.test_sources, out),
            unique_tokens=None if language.unique_tokens is None else language.unique_tokens * less,
            consumed=language.consumed * less,
        )
        for name, language in plan.languages.items()
    }
    return replace(
        plan,
        run=replace(
            plan.run, params=shape.params, tokens=tokens * stages, sequence_length=SEQUENCE
        ),
        languages=languages,
        stages=tuple(replace(stage, tokens=tokens, pairs=None) for stage in plan.stages),
        refit=replace(plan.refit, where=None),
        pairs=None,
    )


def excerpt(plan: Plan, out: Path) -> int:
    """Copy the first documents of each source that ``planned`` names; how many sources there are.

    Raises InputError where one is not here or is no source of Megatron's, OSError.
    """
    count = 0
    for language in plan.languages.values():
        for sources, most in (
            (language.sources, TRAIN_TOKENS),
            (language.valid_sources, VALID_TOKENS),
            (language.test_sources, VALID_TOKENS),
        ):
            for source in sources:
                target = _excerpt_of(source.prefix, out)
                target.parent.mkdir(parents=True, exist_ok=True)
                _copy(source.prefix, target, most)
                count += 1
    return count


def _excerpts(sources: tuple[Source, ...], out: Path) -> tuple[Source, ...]:
    return tuple(replace(s, prefix=str(_excerpt_of(s.prefix, out))) for s in sources)


def _excerpt_of(prefix: str, out: Path) -> Path:
    return out / "sources" / Path(prefix).as_posix().replace("/", "__")


def _copy(prefix: str, target: Path, most: int) -> None:
    if not Path(f"{prefix}.idx").exists():
        raise InputError("no such file, a source of the plan", file=f"{prefix}.idx")
    write_excerpt(prefix, target, most)


def main() -> None:
    """Train as the JSON file that is named says: a script, flags, a plan, a folder."""
    from blendlaw_hooks import cpu
    from blendlaw_hooks.launch import Launch as Launcher
    from blendlaw_hooks.launch import beside, run

    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    beside(Path(task["script"]))
    cpu.install()
    with errors_said():
        plan = planned(read_plan(task["plan"]), task["flags"], Path(task["out"]))
        flags = [*words(task["flags"]), *cpu.FLAGS]
        run(Path(task["script"]), flags, Launcher(plan, Path(task["out"], "run")))
    cpu.leave()


if __name__ == "__main__":
    main()
