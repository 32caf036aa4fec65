"""The whole extension surface of blendlaw, in the order a run meets it.

A plugin is any module or object with functions of these names marked ``@blendlaw.hookimpl``.
Installed packages are found through the entry-point group ``blendlaw``; a stack's own code can
call ``blendlaw.plugin_manager().register(plugin, name="…")``. A hook takes any subset of the
arguments below. Hooks marked *first result* stop at the first plugin that returns something
other than None; plugins registered later are asked first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from blendlaw.blend import Blend, BlendFormat
    from blendlaw.fitting import Fit
    from blendlaw.laws import Law
    from blendlaw.observations import Observation
    from blendlaw.pairs import Pair
    from blendlaw.plan import Plan, Stage

hookspec = pluggy.HookspecMarker("blendlaw")
hookimpl = pluggy.HookimplMarker("blendlaw")


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to ``blendlaw``. Called once, when the command line starts."""


@hookspec
def register_laws(register: Callable[[Law], None]) -> None:
    """Add scaling laws: they appear in ``--law`` by their name. Called once, on first use."""


@hookspec
def register_blend_formats(register: Callable[[BlendFormat], None]) -> None:
    """Add file formats to ``blendlaw blend --format``. Called once, on first use."""


@hookspec(firstresult=True)
def propose_weights(
    stage: Stage, history: Sequence[Observation], fit: Fit | None, plan: Plan
) -> Mapping[str, float] | None:
    """Weights of the languages for ``stage``: share of training tokens, sums to 1. First result.

    Return None to leave the stage to the next plugin; the built-in policies answer last, by the
    stage's own ``weights``. Floors and caps of the plan are applied to whatever is returned.
    """


@hookspec
def before_stage(stage: Stage, blend: Blend) -> None:
    """A stage is about to begin with ``blend``. Called on every rank."""


@hookspec
def record_losses(step: int, tokens: int, losses: Mapping[str, float]) -> None:
    """Losses of each language, nats per token, at ``step``. Called on one rank only."""


@hookspec
def after_stage(stage: Stage, observations: Sequence[Observation]) -> None:
    """A stage has ended; ``observations`` is what it measured. Called on every rank."""


@hookspec(firstresult=True)
def render_pair(pair: Pair) -> str | None:
    """The text of one document made of a program and its translation. First result."""
