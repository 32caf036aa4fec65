"""What blendlaw adds to a training step on a GPU, and how fast the trainer is, by precision.

As overhead.py, but by the clock on the wall, the GPU waited for at both ends of a block: with and
without in turn, in one process, on one model for each precision. A log interval ends in every
block with blendlaw, so reading the losses and their record with its fsync are in it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import io
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import arguments, report
from overhead import INTERVAL, LANGUAGES, Own, blocks, plan_of, sources

RECIPES = ("delayed", "tensorwise", "blockwise")
CHOICES = ("bf16", *RECIPES)


def main() -> None:
    parser = arguments(__doc__, repeats=16)
    parser.add_argument("--precisions", nargs="+", choices=CHOICES, default=CHOICES)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=8, help="samples of a step, at once")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    from blendlaw_hooks.trainer_setup import device, join

    here = device()
    join(here)
    failed = False
    for precision in given.precisions:
        try:
            with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
                figures = measured(precision, given, here, Path(name))
        except Exception:  # the other precisions can still be measured
            failed = True
            traceback.print_exc()
        else:
            report(f"a step in {precision}", figures, given.json)
        sys.stdout.flush()
    raise SystemExit(failed)


def measured(precision: str, given: Any, here: Any, folder: Path) -> dict[str, Any]:
    import torch

    from blendlaw_hooks import trainer_model
    from blendlaw_hooks.trainer_loop import Training

    trainer_model.initialise = on_device  # only the time matters
    steps = (given.repeats + 1) * INTERVAL
    sources(folder, steps * given.batch * given.length // len(LANGUAGES) + 10_000)
    plan = plan_of(folder, 1e6, given.length, given.batch, steps)
    fp8 = precision in RECIPES
    trainer = replace(
        plan.trainer,
        layers=given.layers,
        hidden=given.hidden,
        heads=max(1, given.hidden // 128),
        ffn=128 * round(given.hidden * 8 / 3 / 128),
        vocabulary=given.vocabulary,
        micro_batch=given.batch,
        precision="fp8" if fp8 else precision,
        fp8_recipe=precision if fp8 else "delayed",
    )
    training = Training(replace(plan, trainer=trainer), folder / "run", here, None)
    own = Own(training, ("_record",))  # without the wait for the losses
    on_gpu = here.type == "cuda"

    def clock() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    times = np.array(list(blocks(training, given.repeats + 1, clock)))[1:]  # the first warms up
    training.staged.end()
    ratio = times[:, 0] / times[:, 1] - 1
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratio, (2000, len(ratio))), axis=1)
    low, high = np.quantile(medians, [0.05, 0.95]).tolist()
    seconds = float(np.median(times[:, 1])) / INTERVAL
    tokens = given.batch * given.length
    shape = training.shape
    # Of matrices: all but the embedding that is looked up; of attention, the causal half.
    matrices = shape.params - shape.vocabulary * shape.hidden
    flop = 6 * tokens * (matrices + shape.layers * shape.hidden * given.length)
    figures = {
        "parameters": shape.params,
        "tokens a step": tokens,
        "ms a step, with": 1e3 * float(np.median(times[:, 0])) / INTERVAL,
        "ms a step, without": 1e3 * seconds,
        "overhead, % (median of pairs)": 100 * float(np.median(ratio)),
        "its 90% interval": f"[{100 * low:.3f}, {100 * high:.3f}]",
        "pairs of blocks": len(ratio),
        "CPU ms a step in blendlaw's own calls": 1e3 * own.seconds / steps,
        "tokens/s, without": tokens / seconds,
        "TFLOP/s, without": flop / seconds / 1e12,
        "torch": torch.__version__,
    }
    for package in ("transformer_engine", "megatron_core"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            figures[package] = importlib.metadata.version(package)
    if on_gpu:
        figures["GPU"] = torch.cuda.get_device_name()
        figures["GiB at most"] = torch.cuda.max_memory_allocated() / 2**30
        del training, own
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return figures


def on_device(module: Any, *_: object) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, 0.02)


if __name__ == "__main__":
    main()
