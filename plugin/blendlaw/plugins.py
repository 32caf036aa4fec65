"""The plugin manager. Everything built in is registered through the same hooks as a plugin."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import pluggy

from blendlaw import hookspecs
from blendlaw.errors import InputError

if TYPE_CHECKING:
    from blendlaw.blend import BlendFormat
    from blendlaw.laws import Law

BUILT_IN = (
    "blendlaw.laws",
    "blendlaw.policies",
    "blendlaw.blend",
    "blendlaw.cli",
    "blendlaw.pairs.render",
)


class Manager(pluggy.PluginManager):
    """Checks a plugin's hooks when it is registered, and asks anew for laws and formats."""

    def register(self, plugin: object, name: str | None = None) -> str | None:
        registered = super().register(plugin, name)
        try:
            check_hooks(self)
        except InputError:
            self.unregister(plugin)
            raise
        laws.cache_clear()
        blend_formats.cache_clear()
        return registered


@cache
def plugin_manager() -> pluggy.PluginManager:
    """The process's plugin manager, with the built-ins and all installed plugins registered.

    Raises InputError if an installed plugin cannot be imported or has a hook that does not exist
    (a misspelt hook would otherwise be silently ignored).
    """
    manager = Manager("blendlaw")
    manager.add_hookspecs(hookspecs)
    for name in BUILT_IN:
        manager.register(import_module(name), name=name)
    try:
        manager.load_setuptools_entrypoints("blendlaw")
    except Exception as error:
        raise InputError(f"an installed blendlaw plugin cannot be imported: {error}") from error
    check_hooks(manager)
    return manager


def check_hooks(manager: pluggy.PluginManager) -> None:
    """Raise InputError if a plugin implements a hook that has no specification."""
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise InputError(f"plugin {manager.get_name(error.plugin)}: {error}") from error


@cache
def laws() -> dict[str, Law]:
    """Every registered law by its name."""
    found: dict[str, Law] = {}

    def register(law: Law) -> None:
        if law.name in found:
            raise InputError(f"two plugins register a law named {law.name!r}")
        found[law.name] = law

    plugin_manager().hook.register_laws(register=register)
    return found


@cache
def blend_formats() -> dict[str, BlendFormat]:
    """Every registered blend file format by its name."""
    found: dict[str, BlendFormat] = {}

    def register(blend_format: BlendFormat) -> None:
        if blend_format.name in found:
            raise InputError(f"two plugins register a blend format named {blend_format.name!r}")
        found[blend_format.name] = blend_format

    plugin_manager().hook.register_blend_formats(register=register)
    return found
