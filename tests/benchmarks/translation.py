"""Pairs against the same documents shuffled: translation loss by direction, over seeds.

Programs made up in seven languages, pairs with Python as the pivot (12 directions trained, 30
not), the small trainer, held-out tasks. Both runs have the same model, tokens and other sources;
what differs is ``strategy`` alone. Writes one row a run and direction (CSV).

    python tests/benchmarks/translation.py --seeds 3 -o translation.csv
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from blendlaw.pairs.translation import Translation, name_of
from blendlaw.samplecode.generated import generate
from blendlaw.samplecode.parallel import tasks

STRATEGIES = ("shuffled", "prompt")
ASKED = (("shuffled", "direct"), ("shuffled", "prompt"), ("prompt", "prompt"))
"""A run, and the template that it is asked to translate by. Documents apart have shown no words
between programs, so without them is the kinder."""
LONGEST = 700  # characters of a text that is trained on
JUDGED = 350  # of one that is held out: every pair fits into a sequence, by either template
PLAN = """
[run]
params = 600e3
sequence_length = 384

[pairs]
weight = 0.9
{sources}

[pairs.build]
inputs = ["tasks.jsonl"]
tokenizer = "corpus/tokenizer.json"
pivot = "Python"
reserved_tasks = ["held_out.jsonl"]
strategy = "{strategy}"
valid_share = 0.02
near_duplicates = 0.0

{languages}
[[stages]]
name = "all"
tokens = {tokens}
weights = "uniform"

[trainer]
hidden = 96
layers = 4
learning_rate = 3e-3
schedule = "wsd"
global_batch = 16
micro_batch = 4
validation_interval = 100
validation_samples = 32
checkpoint_interval = 1000
"""


def written(path: Path, chosen: Iterator[dict[str, str]], count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, docs in enumerate(islice(chosen, count)):
            row = {"id": f"{path.stem}/{number}", "docs": docs, "licence": "Apache-2.0"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def run(folder: Path, *command: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")


def prepare(folder: Path, count: int, held_out: int, steps: int) -> None:
    """Tasks, a tokenizer, and the pairs of each strategy."""
    for file, seed, longest, number in (
        ("tasks.jsonl", 0, LONGEST, count),
        ("held_out.jsonl", 1, JUDGED, held_out),
    ):
        short = (docs for docs in tasks(seed) if max(map(len, docs.values())) <= longest)
        written(folder / file, short, number)
    generate(folder / "code", megabytes=0.1)
    code = sorted(str(path) for path in (folder / "code").glob("*.jsonl"))
    more = ["-o", "corpus", "--train-tokenizer", "--vocab-size", "768", "--pad", "<|pad|>"]
    run(folder, "blendlaw", "corpus", *code, *more)
    starter = (folder / "corpus" / "plan.toml").read_text()
    languages = starter[starter.index("[languages") :].split("[[stages]]")[0]
    for strategy in STRATEGIES:
        plan = folder / f"{strategy}.toml"
        for sources in (
            "",
            f'sources = ["{strategy}_train"]\nvalid_sources = ["{strategy}_valid"]',
        ):
            plan.write_text(
                PLAN.format(
                    sources=sources,
                    strategy=strategy,
                    languages=languages,
                    tokens=steps * 16 * 384,
                )
            )
            if not sources:
                run(folder, "blendlaw", "pairs", "build", plan.name, "-o", strategy)


def measured(folder: Path, strategy: str, asked: str, seed: int, ranks: int) -> Translation:
    """A run of ``seed``, asked to translate by the template ``asked``."""
    name = f"{strategy}-{seed}"
    here = folder / name
    if not (here / "done").exists():
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        flags = [f"{strategy}.toml", "--dir", name, "--set", f"seed={seed}"]
        run(folder, *torchrun, "-m", "blendlaw_hooks.trainer", *flags)
        (here / "done").touch()
    out = here / f"{asked}.json"
    if not out.exists():
        # The run's own plan, its seed among the [trainer] keys.
        plan = folder / f"{name}.toml"
        text = (folder / f"{strategy}.toml").read_text()
        plan.write_text(text.replace("[trainer]", f"[trainer]\nseed = {seed}"))
        flags = [plan.name, "held_out.jsonl", "--dir", name, "--strategy", asked, "-o", str(out)]
        run(folder, "blendlaw", "translate-eval", *flags)
    found = Translation.from_json(out.read_text())
    assert found.too_long == 0, "runs are to be judged on the same pairs"
    return found


def interval(values: list[float]) -> str:
    """The mean over seeds with its 90% interval (Student's t)."""
    mean, spread = float(np.mean(values)), stats.sem(values)
    half = float(spread * stats.t.ppf(0.95, len(values) - 1))
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, default=Path("translation"), help="to work in")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=1500)
    parser.add_argument("--held-out", type=int, default=60)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("translation.csv"))
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "prepared").exists():
        prepare(folder, given.tasks, given.held_out, given.steps)
        (folder / "prepared").touch()
    rows = []
    for strategy, asked in ASKED:
        for seed in range(1, given.seeds + 1):
            found = measured(folder, strategy, asked, seed, given.ranks)
            for one in found.directions:
                group = "trained" if "Python" in (one.source, one.target) else "untrained"
                score = one.score
                rows.append((strategy, asked, seed, name_of(one), group, score.loss, score.tokens))
            print(f"{strategy}, seed {seed}, asked by {asked}", file=sys.stderr, flush=True)
    with given.output.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("strategy", "asked", "seed", "direction", "group", "loss", "tokens"))
        out.writerows(rows)
    print(f"nats/token of the target, mean over {given.seeds} seeds [90%]")
    for group in ("trained", "untrained"):
        means = {}
        for strategy, asked in ASKED:
            chosen = [row for row in rows if row[:2] == (strategy, asked) and row[4] == group]
            means[strategy, asked] = by_seed(chosen, given.seeds)
            print(f"{group:10} {strategy:9} asked by {asked:7} {interval(means[strategy, asked])}")
        for asked in ("direct", "prompt"):
            pairs = zip(means["prompt", "prompt"], means["shuffled", asked], strict=True)
            less = interval([paired - shuffled for paired, shuffled in pairs])
            print(f"{group:10} pairs minus shuffled asked by {asked:7} {less}")


def by_seed(rows: list[tuple[Any, ...]], seeds: int) -> list[float]:
    """The mean over the tokens of all targets, for each seed."""
    found = []
    for seed in range(1, seeds + 1):
        own = [row for row in rows if row[2] == seed]
        found.append(sum(row[5] * row[6] for row in own) / sum(row[6] for row in own))
    return found


if __name__ == "__main__":
    main()
