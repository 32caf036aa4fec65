"""blendlaw synergy: pair runs to gains and a transfer matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blendlaw.cli.common import json_option, load, output_option, show, table

if TYPE_CHECKING:
    from blendlaw.synergy import Synergy


@click.command("synergy")
@click.argument("observations", type=click.Path())
@click.option("--fit", type=click.Path(), help="fit.json whose curves turn gains into transfer.")
@click.option("--params", type=float, help="Parameters of the pair runs, with --fit.")
@output_option
@json_option
def command(
    observations: str, fit: str | None, params: float | None, output: str | None, as_json: bool
) -> None:
    """Measure from pair runs how much each language helps each other.

    OBSERVATIONS say what each run saw (tokens.<language>), or are the pair table: target,
    auxiliary, loss, where auxiliary = target is the baseline, the same tokens seen twice.
    """
    from blendlaw.fitted import Fit
    from blendlaw.observations import Observation, read_observations
    from blendlaw.pair_runs import PairLoss, is_pairs_table, read_pairs_table
    from blendlaw.synergy import measure_synergy
    from blendlaw.where import refuse_mixed_splits

    curves = None if fit is None else load(fit, Fit.from_json)
    if is_pairs_table(observations):
        runs: list[PairLoss] | list[Observation] = read_pairs_table(observations)
    else:
        runs = read_observations(observations)
        refuse_mixed_splits(runs)
    found = measure_synergy(runs, fit=curves, params=params)
    show(describe(found), found.to_json(), output, as_json)


def describe(found: Synergy) -> str:
    """The two matrices as tables, targets down and auxiliaries across."""
    targets = list(found.gain_percent)
    others = [a for row in found.gain_percent.values() for a in row]
    auxiliaries = list(dict.fromkeys([*targets, *others]))
    parts = []
    for title, matrix, style in (
        ("gain in %, by auxiliary (positive: it helps the target)", found.gain_percent, "+.2f"),
        ("transfer: what its token counts for the target", found.transfer, ".2f"),
    ):
        rows = [
            [t, *[format(matrix[t][a], style) if a in matrix[t] else "" for a in auxiliaries]]
            for t in targets
        ]
        parts.append(table(["target", *auxiliaries], rows, title=title))
    assumed = found.assumed
    parts.append(
        f"assumed: repetition {assumed['repetition']:.4g}, substitution "
        f"{assumed['substitution']:.2g}, curve {assumed['curve']}, {assumed['baseline']}\n"
    )
    return "\n".join(parts)
