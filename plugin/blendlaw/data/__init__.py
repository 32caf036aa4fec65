"""Figures of arXiv 2512.13472v1, shipped as data (code7/README.md says how they were read)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def code7(name: str) -> Path:
    """The path of a table of the paper: losses, synergy, allocation, printed_parameters, …"""
    return Path(str(files("blendlaw.data") / "code7" / f"{name}.csv"))
