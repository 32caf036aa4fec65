"""The plugin manager: what plugins add, and how their mistakes are told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

import blendlaw
from blendlaw import hookspecs, plugins
from blendlaw.errors import InputError
from blendlaw.fitting import fit
from blendlaw.laws import Law
from blendlaw.laws.chinchilla import Chinchilla
from blendlaw.observations import Observation


@pytest.fixture
def manager() -> Iterator[pluggy.PluginManager]:
    """The process's manager; what a test registers is taken away again."""
    found = plugins.plugin_manager()
    before = set(found.get_plugins())
    plugins.laws.cache_clear()
    plugins.blend_formats.cache_clear()
    yield found
    for plugin in set(found.get_plugins()) - before:
        found.unregister(plugin)
    plugins.laws.cache_clear()
    plugins.blend_formats.cache_clear()


class Plugin(SimpleNamespace):
    """Functions as a plugin; hashable, unlike a plain namespace."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def plugin(**hooks: Callable[..., object]) -> Plugin:
    return Plugin(**{name: blendlaw.hookimpl(hook) for name, hook in hooks.items()})


class House(Chinchilla):
    """A law of one's own."""

    name = "house"


def add_law(law: Law) -> Plugin:
    def register_laws(register: Callable[[Law], None]) -> None:
        register(law)

    return plugin(register_laws=register_laws)


def test_everything_built_in_is_a_plugin(manager: pluggy.PluginManager) -> None:
    assert set(plugins.BUILT_IN) <= {name for name, _ in manager.list_name_plugin()}
    assert {"chinchilla", "transient", "transfer", "exponential", "proportion"} <= set(
        plugins.laws()
    )
    assert plugins.blend_formats()
    assert all(name == law.name for name, law in plugins.laws().items())


def test_a_plugins_law_can_be_fitted_by_its_name(manager: pluggy.PluginManager) -> None:
    manager.register(add_law(House()), name="house")
    assert "house" in plugins.laws()
    seen = [
        Observation("Go", n * 1e9, d * 1e9, 0.4 + 0.2 * n**-0.4 + 1.5 * d**-0.7)
        for n in (0.1, 0.3, 1.0)
        for d in (2, 8, 32)
    ]
    found = fit(seen, "house")
    assert found.law == "house"
    assert found.languages["Go"].params["beta"] == pytest.approx(0.7, rel=1e-4)


def test_a_name_that_is_taken_is_refused(manager: pluggy.PluginManager) -> None:
    manager.register(add_law(Chinchilla()), name="again")
    with pytest.raises(InputError, match="two plugins register a law named 'chinchilla'"):
        plugins.laws()


def test_a_blend_format_whose_name_is_taken_is_refused(manager: pluggy.PluginManager) -> None:
    taken = next(iter(plugins.blend_formats().values()))
    plugins.blend_formats.cache_clear()

    def register_blend_formats(register: Callable[[Any], None]) -> None:
        register(taken)

    manager.register(plugin(register_blend_formats=register_blend_formats), name="again")
    with pytest.raises(InputError, match=f"blend format named {taken.name!r}"):
        plugins.blend_formats()


def test_a_misspelt_hook_is_refused(manager: pluggy.PluginManager) -> None:
    with pytest.raises(InputError, match=r"plugin typo: .*register_law"):
        manager.register(plugin(register_law=lambda register: None), name="typo")
    assert not manager.has_plugin("typo")


def test_a_hook_may_take_fewer_arguments_but_no_others(manager: pluggy.PluginManager) -> None:
    manager.register(plugin(before_stage=lambda stage: None), name="few")
    plugins.check_hooks(manager)
    with pytest.raises(pluggy.PluginValidationError, match="colour"):
        manager.register(plugin(before_stage=lambda colour: None), name="other")


def test_every_function_of_the_hook_specifications_is_one() -> None:
    functions = {
        name
        for name, value in vars(hookspecs).items()
        if inspect.isfunction(value) and value.__module__ == hookspecs.__name__
    }
    found = pluggy.PluginManager("blendlaw")
    found.add_hookspecs(hookspecs)
    assert functions == {name for name in vars(found.hook) if not name.startswith("_")}
    assert all(inspect.getdoc(getattr(hookspecs, name)) for name in functions)


def test_an_installed_plugin_that_fails_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = EntryPoint("broken", "no_such_module_of_anybody", "blendlaw")
    distribution = SimpleNamespace(entry_points=[broken], metadata={"name": "theirs"})
    monkeypatch.setattr("importlib.metadata.distributions", lambda: [distribution])
    plugins.plugin_manager.cache_clear()
    try:
        with pytest.raises(InputError, match=r"plugin.*no_such_module_of_anybody"):
            plugins.plugin_manager()
    finally:
        plugins.plugin_manager.cache_clear()


def test_an_installed_plugin_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = add_law(House())
    entry = SimpleNamespace(name="theirs", group="blendlaw", load=lambda: theirs)
    distribution = SimpleNamespace(entry_points=[entry], metadata={"name": "theirs"})
    monkeypatch.setattr("importlib.metadata.distributions", lambda: [distribution])
    plugins.plugin_manager.cache_clear()
    plugins.laws.cache_clear()
    try:
        assert "house" in plugins.laws()
    finally:
        plugins.plugin_manager.cache_clear()
        plugins.laws.cache_clear()
