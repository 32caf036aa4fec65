"""Proxy runs: which small runs make the allocation of a large one surest, for what they cost."""

from __future__ import annotations

from blendlaw.experiments.design import experiments as experiments
from blendlaw.experiments.result import Experiments as Experiments
from blendlaw.experiments.result import ProxyRun as ProxyRun
