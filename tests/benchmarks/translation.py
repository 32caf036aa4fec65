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

import numpy as np
from scipy import stats

from blendlaw.pairs.translation import Translation, name_of
from blendlaw.samplecode.generated import generate
from blendlaw.samplecode.parallel import tasks

STRATEGIES = ("shuffled", "prompt")
LONGEST = 700  # characters of a text: both sides of a pair fit into a sequence
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
    short = (docs for docs in tasks(0) if max(map(len, docs.values())) <= LONGEST)
    written(folder / "held_out.jsonl", short, held_out)
    written(folder / "tasks.jsonl", short, count)
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
    return Translation.from_json(out.read_text())


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
    # A run on shuffled documents has seen no template, so it is asked without words: the kinder.
    for strategy, asked in (("shuffled", "direct"), ("prompt", "prompt")):
        for seed in range(1, given.seeds + 1):
            found = measured(folder, strategy, asked, seed, given.ranks)
            pivot = {True: "trained", False: "untrained"}
            for one in found.directions:
                group = pivot["Python" in (one.source, one.target)]
                score = one.score
                row = (strategy, seed, name_of(one), group, score.loss, score.tokens)
                rows.append(row)
            print(f"{strategy}, seed {seed}: done", file=sys.stderr, flush=True)
    with given.output.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("strategy", "seed", "direction", "group", "loss", "tokens"))
        out.writerows(rows)
    print(f"nats/token of the target, mean over {given.seeds} seeds [90%]")
    means: dict[tuple[str, str], list[float]] = {}
    for strategy in STRATEGIES:
        for group in ("trained", "untrained"):
            for seed in range(1, given.seeds + 1):
                chosen = [r for r in rows if r[0] == strategy and r[3] == group and r[1] == seed]
                total = sum(row[4] * row[5] for row in chosen)
                mean = total / sum(row[5] for row in chosen)
                means.setdefault((strategy, group), []).append(mean)
            print(f"{strategy:10} {group:10} {interval(means[strategy, group])}")
    for strategy in STRATEGIES[1:]:
        for group in ("trained", "untrained"):
            pairs = zip(means[strategy, group], means["shuffled", group], strict=True)
            less = interval([paired - shuffled for paired, shuffled in pairs])
            print(f"{strategy:10} {group:10} minus shuffled: {less}")


if __name__ == "__main__":
    main()
