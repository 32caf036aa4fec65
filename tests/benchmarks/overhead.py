"""What blendlaw adds to a training step: the same model and data, with it and without, in turn.

One process on one rank. Blocks of a log interval each are timed in the order with, without,
without, with, …, so that both meet the same machine. With: the staged blend, losses by language,
their record at the end of the interval (fsync included), the check whether a stage is to be
decided. Without: Megatron's BlendedDataset of the same sources and weights, and nothing of that.
A decision itself happens once a stage and is timed apart.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import arguments, report

from blendlaw.indexed import IndexedWriter
from blendlaw.plan import LanguagePlan, Plan, Run, Source, Stage
from blendlaw.schedule import Schedule
from blendlaw.trainer_plan import Trainer

LANGUAGES = ("Python", "Java", "JavaScript", "TypeScript", "C#", "Go", "Rust")
VOCABULARY = 4096
INTERVAL = 10


def sources(folder: Path, tokens: int) -> None:
    """Random documents: only the time matters."""
    random = np.random.default_rng(0)
    for number in range(len(LANGUAGES)):
        with IndexedWriter(folder / f"s{number}", np.dtype(np.uint16)) as out:
            for _ in range(max(1, tokens // 1000)):
                out.add(random.integers(1, VOCABULARY, 1000).astype(np.uint16))


def plan_of(folder: Path, params: float, length: int, batch: int, steps: int) -> Plan:
    """Two stages, the second of which is never reached."""
    languages = {
        name: LanguagePlan(sources=(Source(str(folder / f"s{number}")),))
        for number, name in enumerate(LANGUAGES)
    }
    tokens = float(steps * batch * length)
    return Plan(
        run=Run(params=params, tokens=tokens + batch * length, sequence_length=length),
        languages=languages,
        stages=(Stage("main", tokens, "uniform"), Stage("last", float(batch * length), "uniform")),
        trainer=Trainer(
            vocabulary=VOCABULARY,
            global_batch=batch,
            micro_batch=min(batch, 4),
            log_interval=INTERVAL,
            validation_interval=0,
            checkpoint_interval=0,
        ),
    )


def blocks(
    training: Any, pairs: int, clock: Callable[[], float] = time.process_time
) -> Iterator[tuple[float, float]]:
    """Seconds of a block with blendlaw and of one without, by turns of which is first."""
    from megatron.core.datasets.blended_dataset import BlendedDataset
    from torch.utils.data import DataLoader

    staged = training.data.train
    steps = pairs * INTERVAL
    plain = BlendedDataset(
        list(staged.datasets),
        [1 / len(LANGUAGES)] * len(LANGUAGES),
        steps * training.batch,
        staged.config,
    )
    micro = training.plan.trainer.micro_batch
    pin = training.device.type == "cuda"
    batches = iter(DataLoader(plain, batch_size=micro, pin_memory=pin))
    counted = training.staged.measured.wrap_forward_step(training._forward_step)

    def with_it() -> None:
        for _ in range(INTERVAL):
            training._step(counted)

    def without() -> None:
        for _ in range(INTERVAL):
            training.model.step(training._forward_step, batches, training.microbatches)

    for pair in range(pairs):
        times = {}
        for block in (with_it, without) if pair % 2 == 0 else (without, with_it):
            begin = clock()
            block()
            times[block] = clock() - begin
        yield times[with_it], times[without]


class Own:
    """CPU time within blendlaw's own calls, whatever the rest of a step takes."""

    def __init__(self, training: Any, of_run: tuple[str, ...] = ("after_step",)) -> None:
        self.seconds = 0.0
        staged = training.staged
        for place, names in (
            (staged, of_run),
            (staged.measured, ("_add", "_languages", "begin_step", "commit_step")),
            (staged.index, ("locate",)),
        ):
            for name in names:
                setattr(place, name, self._timed(getattr(place, name)))

    def _timed(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.process_time()
            try:
                return own(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - begin

        return timed


def main() -> None:
    parser = arguments(__doc__, repeats=12)
    parser.add_argument("--params", type=float, default=2e6)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    from blendlaw_hooks.trainer_setup import device, join

    here = device()
    join(here)
    from blendlaw_hooks.trainer_loop import Training

    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        steps = (given.repeats + 1) * INTERVAL
        sources(folder, steps * given.batch * given.length // len(LANGUAGES) + 10_000)
        plan = plan_of(folder, given.params, given.length, given.batch, steps)
        training = Training(plan, folder / "run", here, None)
        own = Own(training)
        times = np.array(list(blocks(training, given.repeats + 1)))[1:]  # the first warms up
        share = own.seconds / (given.repeats + 1) / float(np.median(times[:, 0]))
        decision = decided(training)
    ratio = times[:, 0] / times[:, 1] - 1
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratio, (2000, len(ratio))), axis=1)
    low, high = np.quantile(medians, [0.05, 0.95]).tolist()
    report(
        "overhead of a training step",
        {
            "parameters": training.shape.params,
            "CPU s a step, with": float(np.median(times[:, 0])) / INTERVAL,
            "CPU s a step, without": float(np.median(times[:, 1])) / INTERVAL,
            "overhead, % (median of pairs)": 100 * float(np.median(ratio)),
            "its 90% interval": f"[{100 * low:.2f}, {100 * high:.2f}]",
            "pairs of blocks": len(ratio),
            "of it in blendlaw's own calls, %": 100 * share,
            "s of a decision by law": decision,
        },
        given.json,
    )


def decided(training: Any) -> float:
    """Seconds of a decision by law on what was measured, not recorded."""
    from blendlaw.decide import decide, usable

    staged = training.staged
    laws = tuple(replace(stage, weights="law") for stage in training.plan.stages)
    plan = replace(training.plan, stages=laws)
    first = Schedule(staged.schedule.records[:1])
    own = staged._files._read()
    begin = time.perf_counter()
    made = decide(plan, staged.layout, first, usable(plan, own, [], np.inf), 0)
    assert made.fit is not None or made.kept
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
    sys.stdout.flush()
