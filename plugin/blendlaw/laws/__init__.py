"""The built-in laws, one small file each, registered through the same hook as anybody's."""

from __future__ import annotations

from collections.abc import Callable

from blendlaw.hookspecs import hookimpl
from blendlaw.laws.base import Law, Parameter, Prior, Runs, Setting
from blendlaw.laws.chinchilla import Chinchilla
from blendlaw.laws.exponential import Exponential
from blendlaw.laws.mixing import Mixing
from blendlaw.laws.proportion import Proportion
from blendlaw.laws.saturating import Saturating
from blendlaw.laws.transfer import Transfer
from blendlaw.laws.transient import Transient


@hookimpl
def register_laws(register: Callable[[Law], None]) -> None:
    first = (Chinchilla(), Transient(), Transfer(), Saturating())
    for law in (*first, Mixing(), Exponential(), Proportion()):
        register(law)


__all__ = ["Law", "Parameter", "Prior", "Runs", "Setting", "register_laws"]
