"""The study's runs: a plan for the small trainer for each, and what it measured as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from commands import run
from data import FILES, LANGUAGES, STACK, bytes_per_token, held_out, part

from blendlaw.observations import format_observations, read_observations

LENGTH = 256
STEP = 16 * LENGTH  # tokens
SHAPES = {92_000: (32, 2), 154_000: (48, 2), 238_000: (64, 2), 344_000: (64, 4)}
"""By parameters (embeddings of 1024 tokens included): hidden size and layers."""

GRID = (92_000, 154_000, 238_000)
SMALL, LARGE = 154_000, 344_000


@dataclass(frozen=True)
class Scale:
    """The ``languages`` of a study, and how many times ``shorter`` its runs are than in ours."""

    languages: tuple[str, ...] = LANGUAGES
    shorter: int = 1

    def steps(self, ours: int) -> int:
        return max(1, ours // self.shorter)

    def tokens(self, ours: int) -> int:
        """Of so many steps in ours."""
        return self.steps(ours) * STEP

    @property
    def longest(self) -> int:
        """Tokens of the largest runs; ours: 3.1 million."""
        return self.tokens(768)


TRAINER = """
[trainer]
hidden = {hidden}
layers = {layers}
heads = {heads}
vocabulary = 1024
learning_rate = 4e-3
schedule = "{schedule}"
global_batch = 16
micro_batch = 8
validation_interval = {interval}
validation_samples = {samples}
checkpoint_interval = 256
seed = {seed}
"""


@dataclass(frozen=True)
class Run:
    """A run of ``steps`` steps: ``weights`` of one stage, or the TOML of ``stages``.

    ``unique`` tokens there are of a language, where fewer than there is code. The held-out loss of
    all its ``languages`` is measured.
    """

    name: str
    params: int
    steps: int
    languages: tuple[str, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    stages: str = ""
    unique: Mapping[str, int] = field(default_factory=dict)
    epochs: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    schedule: str = "constant"
    interval: int = 1
    seed: int = 1

    def plan(self, folder: Path) -> str:
        """Its plan.toml, started in ``folder``."""
        per_token = bytes_per_token(folder, self.languages)
        lines = [f"[run]\nparams = {self.params}\nsequence_length = {LENGTH}"]
        for name in self.languages:
            lines.append(f'[languages."{name}"]')
            prefix = f"corpus/{FILES[name]}_train"
            if name in self.unique:
                prefix, tokens = part(folder, name, self.unique[name])
                lines.append(f"unique_tokens = {tokens}")
                if self.epochs is not None:
                    lines.append(f"max_epochs = {self.epochs}")
            lines.append(f'sources = ["{prefix}"]')
            lines.append(f'valid_sources = ["{held_out(folder, name)}"]')
            lines.append(f"bytes_per_token = {per_token[name]:.5f}")
            if name in self.values:
                lines.append(f"value = {self.values[name]:.5f}")
        if self.weights:
            shares = [f'"{name}" = {share!r}' for name, share in self.weights.items()]
            lines.append(f'[[stages]]\nname = "main"\ntokens = {self.steps * STEP}')
            lines.append(f"weights = {{ {', '.join(shares)} }}")
        hidden, layers = SHAPES[self.params]
        made = TRAINER.format(
            hidden=hidden,
            layers=layers,
            heads=hidden // 16,
            schedule=self.schedule,
            interval=self.interval,
            samples=128 if self.steps > 100 else 16,
            seed=self.seed,
        )
        return "\n".join([*lines, self.stages, made])


def grid(scale: Scale) -> list[Run]:
    """Every language alone: three sizes, losses on the way of 2.1 million tokens."""
    return [
        Run(
            f"grid-{FILES[name]}-{params}",
            params,
            scale.steps(512),
            (name,),
            {name: 1.0},
            interval=scale.steps(64),
        )
        for params in GRID
        for name in scale.languages
    ]


def larger(scale: Scale) -> list[Run]:
    """Every language alone at a larger size and half as many tokens again: to be predicted."""
    return [
        Run(
            f"larger-{FILES[name]}",
            LARGE,
            scale.steps(768),
            (name,),
            {name: 1.0},
            interval=scale.steps(96),
        )
        for name in scale.languages
    ]


def pairs(scale: Scale) -> list[Run]:
    """Equal parts of two languages, and one seen twice: 2 × 524,288 tokens."""
    found = []
    for first, name in enumerate(scale.languages):
        for other in scale.languages[first:]:
            both = tuple(dict.fromkeys((name, other)))
            found.append(
                Run(
                    f"pairs-{FILES[name]}-{FILES[other]}",
                    SMALL,
                    scale.steps(256),
                    both,
                    {each: 1 / len(both) for each in both},
                    unique=dict.fromkeys(both, scale.tokens(128)),
                    interval=scale.steps(64),
                )
            )
    return found


def repeated(scale: Scale) -> list[Run]:
    """65,536 tokens of a language, seen up to eight times."""
    return [
        Run(
            f"repeated-{FILES[name]}",
            SMALL,
            scale.steps(128),
            (name,),
            {name: 1.0},
            unique={name: scale.tokens(16)},
            interval=scale.steps(16),
        )
        for name in scale.languages
    ]


def mixtures(scale: Scale) -> list[Run]:
    """Blends of all languages, drawn from a Dirichlet distribution around uniform."""
    random = np.random.default_rng(0)
    found = []
    for number in range(10 if scale.shorter == 1 else 3):
        drawn = random.dirichlet(np.ones(len(scale.languages))).round(4).tolist()
        drawn[-1] = round(1 - sum(drawn[:-1]), 4)
        found.append(
            Run(
                f"mixtures-{number}",
                SMALL,
                scale.steps(256),
                scale.languages,
                dict(zip(scale.languages, drawn, strict=True)),
                interval=scale.steps(64),
            )
        )
    return found


def scarce(scale: Scale) -> dict[str, int]:
    """Tokens that there are of each language: as many as a run has, divided as The Stack is."""
    whole = sum(STACK[name] for name in scale.languages)
    return {name: round(scale.longest * STACK[name] / whole) for name in scale.languages}


def train(folder: Path, part_name: str, runs: Iterable[Run], csv_file: Path, at_once: int) -> None:
    """Those of ``runs`` that ``csv_file`` does not have yet; rows are added as they end."""
    known = _known(csv_file)
    missing = [each for each in runs if each.name not in known]
    if not missing:
        return
    home = folder / part_name
    for each in missing:
        place = home / each.name
        if not (place / "plan.toml").exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / "plan.toml").write_text(each.plan(folder))
    curves = ["--curves"] if missing[0].schedule == "constant" else []
    run(folder, "blendlaw", "sweep", part_name, "--at-once", str(at_once), *curves)
    collect(home, missing, csv_file)


def collect(home: Path, runs: Iterable[Run], csv_file: Path) -> None:
    """Add what ``home``/observations.jsonl says of ``runs`` to ``csv_file``."""
    rows: dict[str, Any] = {}
    kept = list(read_observations(csv_file)) if csv_file.exists() else []
    wanted = {each.name: each for each in runs}
    for seen in read_observations(home / "observations.jsonl"):
        if seen.run in wanted and seen.run not in {o.run for o in kept}:
            rows.setdefault(seen.run, []).append(seen)
    added = [seen for name in wanted for seen in rows.get(name, [])]
    csv_file.write_text(format_observations([*kept, *added], "csv"))


def _known(csv_file: Path) -> set[str]:
    if not csv_file.exists():
        return set()
    with csv_file.open(newline="") as file:
        return {row["run"] for row in csv.DictReader(file)}
