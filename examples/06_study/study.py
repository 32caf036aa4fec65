"""The paper in miniature, on real code: train what is missing in the record, then the results.

    python study.py --folder work --record ../../docs/study

Every run whose losses are in a CSV of the record is left alone: with an empty record the whole
study is trained from nothing, with the committed one only the results are drawn again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import policies
import runs
from commands import run
from data import prepare

TRANSLATION = Path(__file__).parents[2] / "tests" / "benchmarks" / "translation.py"

PARTS = {
    "grid": runs.grid,
    "pairs": runs.pairs,
    "repeated": runs.repeated,
    "mixtures": runs.mixtures,
    "rationed": runs.rationed,
    "larger": runs.larger,
    "longer": runs.longer,
}


def directions(folder: Path, record: Path) -> None:
    """Real translations as pairs and as the same documents shuffled: losses by direction."""
    losses, tasks = record / "directions.csv", folder / "tasks"
    if losses.exists():
        return
    if not (tasks / "tasks.jsonl").exists():
        run(folder, "blendlaw.samplecode", "tasks", "--pairs", "--megabytes", "3")
    shutil.copy(tasks / "manifest.json", record / "tasks.json")
    chosen = ["--real", tasks / "tasks.jsonl", "--held-out", "40"]
    command = [sys.executable, TRANSLATION, *chosen, "--folder", folder / "translation"]
    subprocess.run([*map(str, command), "-o", losses], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--folder", type=Path, default=Path("work"), help="for code and runs")
    parser.add_argument("--record", type=Path, default=Path("record"), help="for CSVs and results")
    parser.add_argument("--seeds", type=int, default=8, help="of each policy")
    parser.add_argument("--at-once", type=int, default=2, help="runs at a time")
    parser.add_argument(
        "--only", nargs="*", choices=[*PARTS, "policies", "directions"], help="parts to train"
    )
    parser.add_argument("--tiny", action="store_true", help="made-up code, runs of a few steps")
    given = parser.parse_args()
    folder, record = given.folder.resolve(), given.record.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    record.mkdir(parents=True, exist_ok=True)
    scale = runs.Scale(("Python", "Go"), 64) if given.tiny else runs.Scale()
    prepare(folder, 0.6 if given.tiny else None)
    for file in ("code/manifest.json", "corpus/corpus.json"):
        shutil.copy(folder / file, record)
    for name, made in PARTS.items():
        if not given.only or name in given.only:
            runs.train(folder, name, made(scale), record / f"{name}.csv", given.at_once)
    if not given.only or "policies" in given.only:
        policies.fit(folder, record)
        policies.allocate(folder, record, scale)
        compared = policies.policies(folder, record, scale, given.seeds)
        runs.train(folder, "policies", compared, record / "policies.csv", given.at_once)
    # Not in a rehearsal: translations are there or not, and cannot be made up in six languages.
    if not given.tiny and (not given.only or "directions" in given.only):
        directions(folder, record)


if __name__ == "__main__":
    main()
