"""blendlaw fit: observations and a law to fit.json."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from blendlaw.cli.common import (
    Skipped,
    json_option,
    load,
    output_option,
    progress_bar,
    show,
    table,
)

if TYPE_CHECKING:
    from blendlaw.fitted import Fit


@click.command("fit")
@click.argument("observations", nargs=-1, required=True, type=click.Path())
@click.option("--law", default="auto", show_default=True, help="A law's name, or auto.")
@click.option("--loss", type=click.Choice(["huber", "squares"]), default="huber", show_default=True)
@click.option("--space", type=click.Choice(["log", "linear"]), default="log", show_default=True)
@click.option("--delta", default=1e-3, show_default=True, help="Where Huber's loss turns linear.")
@click.option("--where", help="Fit only these, e.g. 'tokens>=4e9 and language!=Go'.")
@click.option("--holdout", help="Keep these out of the fit and report the error on them.")
@click.option("--bootstrap", default=0, show_default=True, help="Refits for 90% intervals.")
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--transfer", type=click.Path(), help="synergy.json: transfer to take as known.")
@click.option("--skip-bad", is_flag=True, help="Skip bad rows, and show them, instead of refusing.")
@output_option
@json_option
def command(
    observations: Sequence[str],
    law: str,
    loss: str,
    space: str,
    delta: float,
    where: str | None,
    holdout: str | None,
    bootstrap: int,
    seed: int,
    transfer: str | None,
    skip_bad: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Fit a scaling law to every language of OBSERVATIONS (CSV or JSONL; - is stdin)."""
    from blendlaw.fitting import fit
    from blendlaw.observations import read_observations
    from blendlaw.synergy import Synergy
    from blendlaw.where import parse, refuse_mixed_splits, select

    chosen = None if where is None else parse(where)
    held = None if holdout is None else parse(holdout)
    skipped = Skipped(skip_bad)
    try:
        seen = read_observations(*observations, skip_bad=skip_bad, on_bad=skipped)
    finally:
        skipped.say_how_many()
    if chosen is not None:
        seen = select(seen, chosen)
    refuse_mixed_splits(seen)
    if held is not None:
        select(seen, held)  # an unknown column is an error here
    known = None if transfer is None else load(transfer, Synergy.from_json)
    with progress_bar("bootstrap") as progress:
        fitted = fit(
            seen,
            law,
            loss=loss,
            space=space,
            delta=delta,
            holdout=held,
            bootstrap=bootstrap,
            seed=seed,
            **({} if known is None else known.worth()),
            progress=progress,
        )
    origin = {
        "files": {path: _digest(path) for path in observations if path != "-"},
        "where": where,
        "holdout": holdout,
        "skipped_rows": skipped.count,
    }
    fitted = replace(fitted, provenance=fitted.provenance | origin)
    show(describe(fitted), fitted.to_json(), output, as_json)


def describe(fitted: Fit) -> str:
    """A fit as a table, with what to beware of and what was rejected."""
    names = list(next(iter(fitted.languages.values())).params)
    if len(names) > 8:  # a mixture's parameters fill fit.json, not a screen
        names = names[:6]
    rows = []
    for language, one in fitted.languages.items():
        cells = [_number(one.params[n], one.interval.get(n)) for n in names]
        error = "" if one.holdout is None else f"{100 * one.holdout.mean_abs_rel_error:.2f}%"
        rows.append(
            [language, str(one.n_observations), *cells, f"{100 * one.rms_log_error:.2f}%", error]
        )
    lines = [
        table(["language", "n", *names, "rms error", "held out"], rows, title=f"law: {fitted.law}")
    ]
    held = [one.holdout.mean_abs_rel_error for one in fitted.languages.values() if one.holdout]
    if held:
        lines.append(f"mean held-out error {100 * sum(held) / len(held):.2f}%\n")
    lines += [f"considered {c.law}: {c.reason}\n" for c in fitted.selection]
    lines += [
        f"! {language}: {warning}\n"
        for language, one in fitted.languages.items()
        for warning in one.warnings
    ]
    return "".join(lines)


def _number(value: float, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return f"{value:.4g}"
    return f"{value:.4g} [{interval[0]:.3g}, {interval[1]:.3g}]"


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
