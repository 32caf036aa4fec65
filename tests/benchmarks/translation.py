"""Pairs against the same documents shuffled: translation loss by direction, over seeds.

Pairs with Python as the pivot, the small trainer, held-out tasks. Programs are made up in seven
languages (12 directions trained, 30 not) or, with ``--real``, the routines of the Snowball stemmers
in six (10 and 20). Both runs have the same model, tokens and other sources; what differs is
``strategy`` alone. Writes one row a run and direction (CSV).

    python tests/benchmarks/translation.py --seeds 3 -o translation.csv
    python -m blendlaw.samplecode tasks --pairs
    python tests/benchmarks/translation.py --real tasks/tasks.jsonl -o real.csv
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Size:
    """Tokens of a sequence, and characters of the longest text that is trained on and held out.

    A held-out pair fits into a sequence by every template. ``micro`` sequences are trained on at
    once; ``near`` is what makes tasks near duplicates, 0 where none is looked for.
    """

    sequence: int
    longest: int
    judged: int
    micro: int
    near: float


MADE_UP = Size(384, 700, 350, micro=4, near=0.0)
REAL = Size(1024, 3000, 1000, micro=3, near=0.8)
SIX = ("Python", "Java", "JavaScript", "C#", "Go", "Rust")
STEP = 16 * 384  # tokens
PLAN = """
[run]
params = 600e3
sequence_length = {sequence}

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
near_duplicates = {near}
on_leak = "drop"

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
global_batch = {batch}
micro_batch = {micro}
validation_interval = 100
validation_samples = 32
checkpoint_interval = 1000
"""


def written(path: Path, chosen: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, docs in enumerate(chosen):
            row = {"id": f"{path.stem}/{number}", "docs": docs, "licence": "Apache-2.0"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def short(chosen: Iterable[dict[str, str]], longest: int) -> Iterator[dict[str, str]]:
    return (docs for docs in chosen if max(map(len, docs.values())) <= longest)


def made_up(folder: Path, count: int, held_out: int) -> None:
    """Tasks, held-out ones and code, all invented."""
    written(folder / "tasks.jsonl", islice(short(tasks(0), MADE_UP.longest), count))
    written(folder / "held_out.jsonl", islice(short(tasks(1), MADE_UP.judged), held_out))
    generate(folder / "code", megabytes=0.1)


def real(folder: Path, file: Path, held_out: int) -> None:
    """The tasks of ``file`` in all six languages; what is trained on is the code, too."""
    rows = [json.loads(line)["docs"] for line in file.read_text(encoding="utf-8").splitlines()]
    chosen = [docs for docs in short(rows, REAL.longest) if set(docs) == set(SIX)]
    chosen.sort(key=lambda docs: hashlib.sha256(docs["Python"].encode()).digest())
    held = list(islice(short(chosen, REAL.judged), held_out))
    texts = {text for docs in held for text in docs.values()}  # stemmers share routines
    trained = [docs for docs in chosen if texts.isdisjoint(docs.values())]
    written(folder / "held_out.jsonl", held)
    written(folder / "tasks.jsonl", trained)
    (folder / "code").mkdir(exist_ok=True)
    for name in SIX:
        with (folder / "code" / f"{name}.jsonl").open("w", encoding="utf-8") as out:
            for docs in trained:
                row = {"language": name, "text": docs[name]}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


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


def prepare(folder: Path, size: Size, steps: int) -> None:
    """A tokenizer, and the pairs of each strategy."""
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
                    tokens=steps * STEP,
                    sequence=size.sequence,
                    near=size.near,
                    batch=STEP // size.sequence,
                    micro=size.micro,
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
    parser.add_argument("--real", type=Path, help="tasks.jsonl of real translations")
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
        if given.real:
            real(folder, given.real, given.held_out)
        else:
            made_up(folder, given.tasks, given.held_out)
        prepare(folder, REAL if given.real else MADE_UP, given.steps)
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
