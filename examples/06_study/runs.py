"""The study's runs: a plan for the small trainer for each, and what it measured as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from commands import run
from data import FILES, LANGUAGES, STACK, bytes_per_token, held_out, part

from blendlaw.observations import read_observations, write_observations

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
    """A run of ``steps`` steps in ``stages``, as TOML.

    ``unique`` tokens there are of a language, where fewer than there is code. The held-out loss of
    all its ``languages`` is measured.
    """

    name: str
    params: int
    steps: int
    languages: tuple[str, ...]
    stages: str
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
                prefix = part(folder, name, self.unique[name])
                lines.append(f"unique_tokens = {self.unique[name]}")
                if self.epochs is not None:
                    lines.append(f"max_epochs = {self.epochs}")
            lines.append(f'sources = ["{prefix}"]')
            lines.append(f'valid_sources = ["{held_out(folder, name)}"]')
            lines.append(f"bytes_per_token = {per_token[name]:.5f}")
            if name in self.values:
                lines.append(f"value = {self.values[name]:.5f}")
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


def stage(name: str, tokens: int, weights: str) -> str:
    """A stage as TOML; ``weights`` are a policy or a table."""
    return f'[[stages]]\nname = "{name}"\ntokens = {tokens}\nweights = {weights}'


def table(weights: Mapping[str, float]) -> str:
    """Weights as a table of TOML."""
    shares = ", ".join(f'"{name}" = {share!r}' for name, share in weights.items())
    return f"{{ {shares} }}"


def small(
    scale: Scale,
    name: str,
    params: int,
    steps: int,
    weights: Mapping[str, float],
    *,
    points: int = 8,
    unique: Mapping[str, int] | None = None,
    seed: int = 1,
) -> Run:
    """A run of one stage of ``steps`` steps in ours, its losses measured ``points`` times."""
    return Run(
        name,
        params,
        scale.steps(steps),
        tuple(weights),
        stage("main", scale.tokens(steps), table(weights)),
        unique=unique or {},
        interval=scale.steps(steps // points),
        seed=seed,
    )


def grid(scale: Scale) -> list[Run]:
    """Every language alone: three sizes, losses on the way of 2.1 million tokens."""
    return [
        small(scale, f"grid-{FILES[name]}-{params}", params, 512, {name: 1.0})
        for params in GRID
        for name in scale.languages
    ]


def larger(scale: Scale) -> list[Run]:
    """Every language alone at a larger size and half as many tokens again: to be predicted."""
    return [
        small(scale, f"larger-{FILES[name]}", LARGE, 768, {name: 1.0}) for name in scale.languages
    ]


def pairs(scale: Scale) -> list[Run]:
    """Equal parts of two languages, and one seen twice: 2 × 524,288 tokens."""
    found = []
    for first, name in enumerate(scale.languages):
        for other in scale.languages[first:]:
            both = dict.fromkeys((name, other))
            weights = dict.fromkeys(both, 1 / len(both))
            run_name = f"pairs-{FILES[name]}-{FILES[other]}"
            unique = dict.fromkeys(both, scale.tokens(128))
            found.append(small(scale, run_name, SMALL, 256, weights, points=4, unique=unique))
    return found


def repeated(scale: Scale) -> list[Run]:
    """65,536 tokens of a language, seen up to eight times."""
    return [
        small(
            scale,
            f"repeated-{FILES[name]}",
            SMALL,
            128,
            {name: 1.0},
            unique={name: scale.tokens(16)},
        )
        for name in scale.languages
    ]


def mixtures(scale: Scale) -> list[Run]:
    """Blends of all languages, drawn from a Dirichlet distribution around uniform."""
    return [
        small(scale, f"mixtures-{number}", SMALL, 256, weights, points=4)
        for number, weights in enumerate(_drawn(scale, 0))
    ]


def rationed(scale: Scale) -> list[Run]:
    """Other blends, with as little of each language for their length as the largest runs have."""
    length = scale.tokens(256)
    unique = {name: tokens * length // scale.longest for name, tokens in scarce(scale).items()}
    return [
        small(scale, f"rationed-{number}", SMALL, 256, weights, points=4, unique=unique)
        for number, weights in enumerate(_drawn(scale, 1))
    ]


def longer(scale: Scale) -> list[Run]:
    """Uniform and proportional weights at the small size, with all tokens of the largest runs."""
    unique = scarce(scale)
    weights = {
        "uniform": dict.fromkeys(scale.languages, 1 / len(scale.languages)),
        "proportional": {name: unique[name] / sum(unique.values()) for name in unique},
    }
    return [
        small(scale, f"longer-{name}-{seed}", SMALL, 768, shares, unique=unique, seed=seed)
        for seed in range(1, 4 if scale.shorter == 1 else 2)
        for name, shares in weights.items()
    ]


def _drawn(scale: Scale, seed: int) -> Iterator[dict[str, float]]:
    random = np.random.default_rng(seed)
    for _ in range(10 if scale.shorter == 1 else 3):
        drawn = random.dirichlet(np.ones(len(scale.languages))).round(4).tolist()
        drawn[-1] = round(1 - sum(drawn[:-1]), 4)
        yield dict(zip(scale.languages, drawn, strict=True))


def scarce(scale: Scale) -> dict[str, int]:
    """Tokens that there are of each language: as many as a run has, divided as The Stack is."""
    whole = sum(STACK[name] for name in scale.languages)
    return {name: round(scale.longest * STACK[name] / whole) for name in scale.languages}


def train(folder: Path, part_name: str, runs: Sequence[Run], record: Path, at_once: int) -> None:
    """Train those of ``runs`` that the CSV ``record`` does not have yet, and add their losses."""
    kept = list(read_observations(record)) if record.exists() else []
    known = {seen.run for seen in kept}
    missing = [each for each in runs if each.name not in known]
    if not missing:
        return
    home = folder / part_name
    for each in missing:
        plan = home / each.name / "plan.toml"
        if not plan.exists():
            plan.parent.mkdir(parents=True, exist_ok=True)
            plan.write_text(each.plan(folder))
    curves = ["--curves"] if missing[0].schedule == "constant" else []
    run(folder, "blendlaw", "sweep", part_name, "--at-once", str(at_once), *curves)
    found = read_observations(home / "observations.jsonl")
    for each in missing:
        kept += [seen for seen in found if seen.run == each.name]
    write_observations(record, kept)
