"""What a run of thousands of GPUs and hundreds of sources asks of blendlaw: measured, and computed.

Measured here, in one process: the plan and its layout, the blend's index at the run's real number
of samples (one stage; the others are as large), Megatron's data sets of that many sources, a log
interval's record, and a refit. Computed: what follows for the whole run, by the formulas printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import arguments, cpu, report

from blendlaw import Observation, fit
from blendlaw.decide import decide
from blendlaw.files import MAX_BYTES
from blendlaw.indexed import IndexedWriter
from blendlaw.layout import Layout, lay_out
from blendlaw.plan import Plan, read_plan
from blendlaw.run_folder import RunFolder
from blendlaw.schedule import Schedule, StageRecord, append

DOCUMENT = 2_000  # tokens, of the stand-ins for sources
EVALUATIONS = 200


def write_plan(folder: Path, options: Any) -> list[str]:
    """A plan of the run: languages of equal numbers of sources and unequal sizes; its prefixes."""
    each = options.sources // options.languages
    stage = options.tokens / options.stages
    lines = ["[run]", f"params = {options.params}", f"sequence_length = {options.length}"]
    for number in range(options.languages):
        unique = 4 * options.tokens / options.languages / (1 + number % 7)
        prefixes = [f'"{folder}/{number}-{part}"' for part in range(each)]
        lines += [f"[languages.L{number}]", f"sources = [{', '.join(prefixes)}]"]
        lines += [f"unique_tokens = {unique:.6g}", "max_epochs = 4"]
        lines += [f"cap = {min(1.0, 4 / options.languages)}", "bytes_per_token = 3.5"]
    for number in range(options.stages):
        policy = "law" if number else "proportional"
        lines += ["[[stages]]", f'name = "s{number}"', f"tokens = {stage}", f'weights = "{policy}"']
    (folder / "plan.toml").write_text("\n".join(lines))
    return [f"{folder}/{n}-{part}" for n in range(options.languages) for part in range(each)]


def write_sources(prefixes: list[str], length: int) -> None:
    """A stand-in of a few sequences for every source."""
    random = np.random.default_rng(0)
    for prefix in prefixes:
        with IndexedWriter(prefix, np.dtype(np.uint16)) as out:
            for _ in range(1 + 4 * length // DOCUMENT):
                out.add(random.integers(0, 1000, DOCUMENT).astype(np.uint16))


def even(layout: Layout, number: int) -> StageRecord:
    names = {source.language for source in layout.sources}
    weights = dict.fromkeys(sorted(names), 1 / len(names))
    name, start = layout.stages[number], layout.boundaries[number]
    return StageRecord(name, start, weights, max(0, start - 1), "even", None)


def index(layout: Layout, folder: Path) -> dict[str, Any]:
    """The index of the first stage at its real size, written as a run writes it."""
    from megatron.core.datasets import helpers  # noqa: F401  not to be counted below

    from blendlaw_hooks.staged_index import StagedIndex

    schedule, cache = folder / "schedule.jsonl", folder / "cache"
    append(schedule, even(layout, 0))
    before = peak()
    made = StagedIndex(layout, schedule, cache)
    seconds, _ = cpu(lambda: made.locate(0))
    size = sum(path.stat().st_size for path in cache.iterdir())
    asked = np.random.default_rng(0).integers(0, layout.boundaries[1], 20_000).tolist()
    opened = StagedIndex(layout, schedule, cache)
    look, _ = cpu(lambda: [opened.locate(sample) for sample in asked])
    return {
        "samples of a stage": layout.size(0),
        "index of a stage, CPU s": seconds,
        "index of a stage, GB": size / 1e9,
        "its peak memory, GB": (peak() - before) / 1e9,
        "where a sample is, microseconds": look / len(asked) * 1e6,
    }


def datasets(plan: Plan, layout: Layout, folder: Path) -> dict[str, Any]:
    """Megatron's data sets of as many sources, a few samples each: their count is what is asked."""
    from dataclasses import replace

    import torch
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    from blendlaw.pairs.kinds import kinds_of
    from blendlaw_hooks.staged_blend import build_staged_blend
    from blendlaw_hooks.staged_index import StagedIndex

    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    small = replace(
        layout,
        sources=tuple(replace(source, samples=4) for source in layout.sources),
        stages=layout.stages[:1],
        boundaries=(0, len(layout.sources)),
    )
    schedule = folder / "small.jsonl"
    append(schedule, replace(even(layout, 0), start_sample=0))

    class Tokenizer:
        eod, vocab_size, unique_identifiers = 0, 1000, {"class": "Tokenizer"}

    config = GPTDatasetConfig(
        random_seed=1,
        sequence_length=plan.run.sequence_length,
        blend=(["unused"], None),
        split="1,0,0",
        path_to_cache=str(folder / "datasets"),
        tokenizer=Tokenizer(),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
        mid_level_dataset_surplus=0.005,
    )
    kinds = kinds_of(plan.languages, [])
    found: dict[str, Any] = {}
    for what in ("made", "found made"):
        open_before, anonymous_before = len(os.listdir("/proc/self/fd")), anonymous()
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            blend = build_staged_blend(
                GPTDataset, StagedIndex(small, schedule), config, lambda: True, kinds
            )
        assert blend is not None
        blend[0]
        found[f"data sets of all sources, {what}, CPU s"] = time.process_time() - began
        found["files held open by them"] = len(os.listdir("/proc/self/fd")) - open_before
        found[f"memory of their own, {what}, MB"] = (anonymous() - anonymous_before) / 1e6
        del blend
    torch.distributed.destroy_process_group()
    return found


def record(plan: Plan, layout: Layout, folder: Path) -> dict[str, Any]:
    """What a log interval writes, and how long that takes with its fsync."""
    run = RunFolder(folder / "run", plan, layout)
    made = run.decide(0, lambda record: None)
    assert made.stage == layout.stages[0]
    losses = dict.fromkeys(plan.languages, (1.234567891, 123456.0))
    repeats = 5

    def intervals() -> None:
        for step in range(1, repeats + 1):
            run.record(losses, step=step, samples=1_000_000 * step, stage=0, split="train")

    seconds, _ = cpu(intervals)
    size = (folder / "run" / "losses.jsonl").stat().st_size / repeats
    read, _ = cpu(lambda: run.of_stage(layout.stages[0]))
    run.close()
    return {
        "record of a log interval, MB": size / 1e6,
        "record of a log interval, CPU s (and an fsync)": seconds / repeats,
        "reading it again, CPU s": read / repeats,
    }


def refit(plan: Plan, layout: Layout) -> dict[str, Any]:
    """A decision by law on what a run has measured: every language at each of its evaluations."""
    random = np.random.default_rng(0)
    history = []
    for number, name in enumerate(plan.languages):
        for step in range(1, EVALUATIONS + 1):
            tokens = step * plan.run.tokens / layout.boundaries[-1] * 1e5
            own = tokens / len(plan.languages)
            loss = 0.5 + number % 5 / 10 + 2 * (own / 1e9) ** -0.3
            history.append(
                Observation(
                    language=name,
                    params=plan.run.params,
                    tokens=tokens,
                    loss=float(loss * np.exp(random.normal(0, 0.005))),
                    tokens_by_language={name: own},
                )
            )
    fitted, _ = cpu(lambda: fit(history, "chinchilla"))
    schedule = Schedule((even(layout, 0),))
    whole, _ = cpu(lambda: decide(plan, layout, schedule, history, layout.boundaries[1] - 1))
    return {
        "observations of a refit": len(history),
        "fit, CPU s": fitted,
        "decision, fit and allocation, CPU s": whole,
    }


def computed(options: Any, layout: Layout, found: dict[str, Any]) -> dict[str, Any]:
    """For the whole run; each formula is the name of what it gives, or in docs/scale.md."""
    batch = options.batch // options.length
    data = options.gpus // options.model_parallel
    steps = layout.boundaries[-1] // batch
    ahead = 2 * batch + options.workers * 2 * options.micro_batch * data
    intervals = steps // options.log_interval
    drawn = sum(source.samples for source in layout.sources)
    loaders = options.gpus // options.tensor_parallel  # tensor-parallel rank 0 of each
    return {
        "steps of the run": steps,
        "index of the run, CPU s (stages)": found["index of a stage, CPU s"] * options.stages,
        "index of the run, GB (10 bytes a sample)": 10 * layout.boundaries[-1] / 1e9,
        "samples that the data sets are built for": drawn,
        "their indices, GB (12 bytes a sample; 20 if large)": 12 * drawn / 1e9,
        "all-reduce of a log interval, bytes (16 a language)": 16 * options.languages,
        "losses.jsonl of the run, GB": found["record of a log interval, MB"] * intervals / 1e3,
        "of which can be read, GB": MAX_BYTES / 1e9,
        "a decision is so many steps old when it begins to act": ahead / batch,
        "processes that open all sources (without workers)": loaders,
    }


def anonymous() -> int:
    """Memory that is this process's own and no file's."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = arguments(__doc__, repeats=1)
    parser.add_argument("--gpus", type=int, default=2048)
    parser.add_argument("--sources", type=int, default=600)
    parser.add_argument("--languages", type=int, default=100)
    parser.add_argument("--params", type=float, default=7e9)
    parser.add_argument("--tokens", type=float, default=1e12)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=16 << 20, help="tokens of a step")
    parser.add_argument("--stages", type=int, default=10)
    parser.add_argument("--model-parallel", type=int, default=8, help="TP × PP")
    parser.add_argument("--tensor-parallel", type=int, default=4)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4, help="of a data loader")
    parser.add_argument("--log-interval", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_sources(write_plan(folder, options), options.length)
        planning, plan = cpu(lambda: read_plan(folder / "plan.toml"))
        laying, layout = cpu(lambda: lay_out(plan, plan.samples))
        measured: dict[str, Any] = {"plan, CPU s": planning, "layout, CPU s": laying}
        measured |= index(layout, folder)
        measured |= datasets(plan, layout, folder)
        measured |= record(plan, layout, folder)
        measured |= refit(plan, layout)
    title = f"{options.gpus:,} GPUs, {options.tokens:.3g} tokens, {options.sources} sources"
    report(title, measured | computed(options, layout, measured), options.json)


if __name__ == "__main__":
    main()
