"""The policies that are compared: how the tokens of one budget are divided among the languages."""

from __future__ import annotations

import json
import math
from pathlib import Path

from commands import run
from data import bytes_per_token
from runs import LARGE, Run, Scale, scarce, stage, table

PROXIES = ("grid", "pairs", "repeated", "mixtures")
"""What the law is fitted to: the small runs, none of the size that is decided about."""

EPOCHS = 4
"""UniMax's cap; about where repetition begins to cost (arXiv 2305.16264)."""

STAGES = 4
POLICIES = ("uniform", "proportional", "unimax", "law", "refit")


def fit(folder: Path, record: Path) -> None:
    """The law of the proxy runs, and two to compare with: another law, and one of more runs."""
    for out, law, parts, draws in (
        ("fit", "saturating", PROXIES, 200),
        ("transfer", "transfer", PROXIES, 0),
        ("rationed", "saturating", (*PROXIES, "rationed"), 0),
    ):
        files = [str(record / f"{name}.csv") for name in parts]
        flags = ["--law", law, "--bootstrap", str(draws)]
        run(folder, "blendlaw", "fit", *files, *flags, "-o", str(record / f"{out}.json"))


def values(folder: Path, scale: Scale) -> dict[str, float]:
    """So that the objective is the mean over languages of bits per byte."""
    return {
        name: 1 / (math.log(2) * size)
        for name, size in bytes_per_token(folder, scale.languages).items()
    }


def allocate(folder: Path, record: Path, scale: Scale) -> Path:
    """The weights that the law gives in advance, beside those of the others."""
    out = record / "allocation.json"
    flags = ["--params", str(LARGE), "--tokens", str(scale.longest), "-o", str(out)]
    for name, tokens in scarce(scale).items():
        flags += ["--unique-tokens", f"{name}={tokens}"]
    for name, value in values(folder, scale).items():
        flags += ["--value", f"{name}={value:.5f}"]
    run(folder, "blendlaw", "allocate", str(record / "fit.json"), *flags)
    return out


def policies(folder: Path, record: Path, scale: Scale, seeds: int) -> list[Run]:
    """Every policy with every seed, seed by seed."""
    weights = json.loads((record / "allocation.json").read_text())["weights"]
    law = table({name: weights[name] for name in scale.languages})
    made = {name: f'"{name}"' for name in ("uniform", "proportional", "unimax")} | {"law": law}
    stages = {name: stage("main", scale.longest, policy) for name, policy in made.items()}
    stages["refit"] = _refitted(law, record, scale)
    unique, worth = scarce(scale), values(folder, scale)
    return [
        Run(
            f"{policy}-{seed}",
            LARGE,
            scale.steps(768),
            scale.languages,
            stages[policy],
            unique=unique,
            epochs=EPOCHS if policy == "unimax" else None,
            values=worth,
            schedule="wsd",
            interval=scale.steps(180),  # before a stage is decided, not after
            seed=seed,
        )
        for seed in range(1, seeds + 1)
        for policy in POLICIES
    ]


def _refitted(first: str, record: Path, scale: Scale) -> str:
    """Four stages: the first by the law in advance, the others by refits to what was measured."""
    tokens = scale.longest // STAGES
    files = ", ".join(f'"{(record / name).resolve()}.csv"' for name in PROXIES)
    lines = [f'[refit]\nlaw = "saturating"\nsplit = "valid"\nobservations = [{files}]']
    for number in range(STAGES):
        lines.append(stage(f"part{number + 1}", tokens, '"law"' if number else first))
    return "\n".join(lines)
