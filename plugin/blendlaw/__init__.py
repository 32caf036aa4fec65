"""blendlaw: how much of each programming language to train on.

Everything public is imported on first use, so that ``import blendlaw`` costs almost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blendlaw.allocation import Allocation, allocate
    from blendlaw.blend import Blend, read_blend
    from blendlaw.errors import InputError
    from blendlaw.fitting import Fit, fit
    from blendlaw.hookspecs import hookimpl
    from blendlaw.observations import Observation, read_observations
    from blendlaw.plan import Plan, read_plan
    from blendlaw.plugins import plugin_manager
    from blendlaw.synergy import Synergy, measure_synergy

__version__ = "0.1.0"

_HOME = {
    "Allocation": "allocation",
    "allocate": "allocation",
    "Blend": "blend",
    "read_blend": "blend",
    "InputError": "errors",
    "Fit": "fitting",
    "fit": "fitting",
    "hookimpl": "hookspecs",
    "Observation": "observations",
    "read_observations": "observations",
    "Plan": "plan",
    "read_plan": "plan",
    "plugin_manager": "plugins",
    "Synergy": "synergy",
    "measure_synergy": "synergy",
}
__all__ = [
    "Allocation",
    "Blend",
    "Fit",
    "InputError",
    "Observation",
    "Plan",
    "Synergy",
    "allocate",
    "fit",
    "hookimpl",
    "measure_synergy",
    "plugin_manager",
    "read_blend",
    "read_observations",
    "read_plan",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'blendlaw' has no attribute {name!r}")
    return getattr(import_module(f"blendlaw.{_HOME[name]}"), name)
