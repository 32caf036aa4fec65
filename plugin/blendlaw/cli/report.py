"""blendlaw report: what was measured, fitted, decided and trained, as one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from blendlaw.cli.common import emit, load, output_option
from blendlaw.errors import InputError
from blendlaw.rows import JSONL_SUFFIXES

# What a folder is searched for.
FILES = (
    "observations.csv",
    "observations.jsonl",
    "losses.csv",
    "losses.jsonl",
    "fit.json",
    "synergy.json",
    "allocation.json",
    "translation.json",
)
# A key that only this kind of file has.
KEYS = {
    "law": "fit",
    "gain_percent": "synergy",
    "kkt_residual": "allocation",
    "untrained": "translation",
}


@click.command("report")
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="PATH…")
@click.option("--weights", multiple=True, metavar="NAME=FILE", help="Further weights to show.")
@output_option
def command(paths: Sequence[str], weights: Sequence[str], output: str | None) -> None:
    """Put observations, fit.json, synergy.json, allocation.json and translation.json on one page.

    PATH is any of these files, a folder that has them, or the folder of a training run. Several
    translation.json are compared.
    """
    from blendlaw.allocation import Allocation
    from blendlaw.fitted import Fit
    from blendlaw.observations import read_observations
    from blendlaw.pairs.translation import Translation
    from blendlaw.report.page import render
    from blendlaw.report.training import read_run
    from blendlaw.synergy import Synergy
    from blendlaw.weights import read_weights

    run = folder_of_run(paths)
    sorted_: dict[str, list[str]] = {}
    for path in expand(paths, run):
        sorted_.setdefault(kind(path), []).append(path)
    measured, judged = sorted_.pop("observations", []), sorted_.pop("translation", [])
    for what, several in sorted_.items():
        if len(several) > 1:
            raise InputError(f"two files are {what}.json: {several[0]} and {several[1]}")
    one = {what: several[0] for what, several in sorted_.items()}
    others = {}
    for given in weights:
        name, equals, file = given.partition("=")
        if not equals:
            raise click.BadParameter(f"{given!r} is not NAME=FILE", param_hint="--weights")
        others[name] = read_weights(file)
    page = render(
        run=None if run is None else read_run(run),
        observations=read_observations(*measured) if measured else (),
        fit=load(one["fit"], Fit.from_json) if "fit" in one else None,
        synergy=load(one["synergy"], Synergy.from_json) if "synergy" in one else None,
        allocation=load(one["allocation"], Allocation.from_json) if "allocation" in one else None,
        weights=others,
        judged=[load(path, Translation.from_json) for path in judged],
    )
    emit(page, output)


def folder_of_run(paths: Sequence[str]) -> str | None:
    """The folder among ``paths`` that a training run has written. InputError if two are."""
    from blendlaw.report.training import is_run

    found = list(dict.fromkeys(path for path in paths if is_run(path)))
    if len(found) > 1:
        raise InputError(f"two folders are of training runs: {found[0]} and {found[1]}")
    return found[0] if found else None


def expand(paths: Sequence[str], run: str | None = None) -> list[str]:
    """``paths`` with every folder replaced by the known files in it, each file once.

    The losses of ``run``, the folder of a training run, are its own and not among them. Raises
    InputError for a folder without any.
    """
    found: dict[str, None] = {}
    for path in paths:
        if not Path(path).is_dir():
            found[path] = None
            continue
        inside = [str(Path(path) / name) for name in FILES if (Path(path) / name).is_file()]
        if not inside and path != run:
            raise InputError(f"has none of {', '.join(FILES)}", file=path)
        found |= dict.fromkeys(inside)
    if run is not None:
        found.pop(str(Path(run) / "losses.jsonl"), None)
    return list(found)


def kind(path: str) -> str:
    """observations, fit, synergy, allocation or translation, by what is in the file.

    Raises InputError for JSON that is none of these; what is not JSON passes for observations,
    whose reader says what is wrong with it.
    """
    if Path(path).suffix.lower() in (".csv", *JSONL_SUFFIXES):
        return "observations"
    data = load(path, _json)
    if not isinstance(data, dict) or {"language", "loss"} <= data.keys():
        return "observations"
    for key, what in KEYS.items():
        if key in data:
            return what
    known = "fit.json, synergy.json, allocation.json or translation.json"
    raise InputError(f"is neither observations nor {known}", path)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # CSV, or JSONL of more than a line
        return None
