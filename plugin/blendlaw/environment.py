"""What is installed to train with, and which precisions that allows."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from blendlaw.precision import RECIPES, Version, lacks, version

PROBE = (sys.executable, "-W", "ignore", "-m", "blendlaw_hooks.environment")
PATIENCE = 300.0  # seconds; a first import of torch from a network disk takes long


@dataclass(frozen=True)
class Part:
    """One thing that training needs: its version or the ``problem`` with it.

    ``cuda`` is what torch was built for, ``gpus`` are (name, compute capability) of each,
    ``kernels`` are the compiled modules that could be imported.
    """

    part: str
    version: str | None = None
    cuda: str | None = None
    gpus: tuple[tuple[str, Version], ...] = ()
    kernels: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Environment:
    """All parts, as far as they could be told."""

    parts: tuple[Part, ...]

    def __getitem__(self, name: str) -> Part:
        return next((p for p in self.parts if p.part == name), Part(name, problem="not told"))

    @property
    def engine(self) -> Version | None:
        found = self["Transformer Engine"]
        return None if found.problem else version(found.version or "")

    @property
    def cuda(self) -> Version | None:
        return version(self["torch"].cuda or "")

    @property
    def capability(self) -> Version | None:
        return min((capability for _, capability in self["GPUs"].gpus), default=None)

    def precisions(self) -> dict[str, list[str]]:
        """Each precision, and what it misses here. A GPU that is not there is not missed."""
        found = {}
        for name, recipe in RECIPES.items():
            found[name] = lacks(recipe, self.capability, self.engine, self.cuda)
            if recipe.engine is not None and self.engine is None:
                found[name].append("Transformer Engine")
        return found


def probe() -> Environment:
    """Ask a process of its own: this package never imports torch, and an extension may crash."""
    try:
        done = subprocess.run(
            PROBE, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
        told, ended = done.stdout, f"status {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        told, ended = late.stdout or b"", f"no answer for {PATIENCE:.0f} seconds"
    return read(told.decode(errors="replace"), ended)


def read(told: str, ended: str = "") -> Environment:
    """The lines of the process; ``ended`` says how it ended, if badly."""
    parts = []
    for line in told.splitlines():
        raw = json.loads(line)
        raw["gpus"] = tuple((name, tuple(capability)) for name, capability in raw.get("gpus", ()))
        raw["kernels"] = tuple(raw.get("kernels", ()))
        parts.append(Part(**raw))
    if ended:
        after = f", after {parts[-1].part}" if parts else ""
        parts.append(Part("what follows", problem=f"the process that asked ended{after}: {ended}"))
    return Environment(tuple(parts))
