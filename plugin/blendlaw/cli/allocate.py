"""blendlaw allocate: the weights worth training with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from blendlaw.cli.common import (
    ByLanguage,
    by_language,
    json_option,
    load,
    output_option,
    show,
    table,
)

if TYPE_CHECKING:
    from blendlaw.allocation import Allocation

Values = Sequence[tuple[str | None, float]]
number = ByLanguage()


@click.command("allocate")
@click.argument("fit", type=click.Path())
@click.option("--params", type=float, required=True, help="Parameters of the model (a count).")
@click.option("--tokens", type=float, required=True, help="Training tokens to allocate.")
@click.option("--plan", type=click.Path(), help="plan.toml: languages, limits, values.")
@click.option("--stage", help="The stage of the plan: what the earlier ones train on is consumed.")
@click.option("--floor", type=number, multiple=True, help="Least weight: W or LANG=W.")
@click.option("--cap", type=number, multiple=True, help="Largest weight: W or LANG=W.")
@click.option("--max-epochs", type=number, multiple=True, help="Most repeats: E or LANG=E.")
@click.option("--unique-tokens", type=number, multiple=True, help="Tokens there are: LANG=U.")
@click.option("--value", type=number, multiple=True, help="Worth of a nat: V or LANG=V.")
@click.option("--consumed", type=number, multiple=True, help="Tokens trained on before: LANG=T.")
@click.option("--compare", type=click.Path(), multiple=True, help="Other weights (JSON), by file.")
@output_option
@json_option
def command(
    fit: str,
    params: float,
    tokens: float,
    plan: str | None,
    stage: str | None,
    floor: Values,
    cap: Values,
    max_epochs: Values,
    unique_tokens: Values,
    value: Values,
    consumed: Values,
    compare: Sequence[str],
    output: str | None,
    as_json: bool,
) -> None:
    """Find the weights that minimise the losses that FIT predicts, within the limits."""
    from blendlaw.allocation import allocate
    from blendlaw.cli.blend import after_earlier_stages
    from blendlaw.fitted import Fit
    from blendlaw.plan import read_plan
    from blendlaw.weights import read_weights

    fitted = load(fit, Fit.from_json)
    planned = None if plan is None else read_plan(plan)
    if stage is not None:
        if planned is None:
            raise click.UsageError("--stage needs the --plan that it is of")
        planned = after_earlier_stages(planned, planned.stage(stage), fitted)
    languages = tuple(fitted.sources if planned is None else planned.languages)
    allocation = allocate(
        fitted,
        params=params,
        tokens=tokens,
        plan=planned,
        floor=by_language(floor, "--floor", languages),
        cap=by_language(cap, "--cap", languages),
        max_epochs=by_language(max_epochs, "--max-epochs", languages),
        unique_tokens=by_language(unique_tokens, "--unique-tokens", languages),
        value=by_language(value, "--value", languages),
        consumed=by_language(consumed, "--consumed", languages),
        compare={Path(path).stem: read_weights(path) for path in compare},
    )
    show(describe(allocation), allocation.to_json(), output, as_json)


def describe(allocation: Allocation) -> str:
    """An allocation as a table, with its comparison and what a person should know."""
    spans, predicted = allocation.interval or {}, allocation.predicted
    rows = []
    for language, weight in allocation.weights.items():
        span = spans.get(language)
        marginal, epochs = allocation.marginal[language], allocation.epochs[language]
        rows.append(
            [
                language,
                f"{100 * weight:.2f}%",
                "" if span is None else f"[{100 * span[0]:.1f}, {100 * span[1]:.1f}]",
                f"{allocation.tokens_by_language[language] / 1e9:.2f}",
                "" if epochs is None else f"{epochs:.2f}",
                *[_loss(predicted[name], language) for name in predicted],
                "" if marginal is None else f"{1e3 * marginal:+.4f}",
            ]
        )
    columns = ["language", "weight", "90%", "tokens, 1e9", "epochs"]
    columns += [f"loss {name}" for name in predicted] + ["1e-3 per 1e9 more"]
    lines = [table(columns, rows)]
    for name, gain in allocation.gain.items():
        if gain is None:
            lines.append(f"against {name}: not compared, since unique tokens are not all known\n")
        else:
            lines.append(f"against {name}: {gain.verdict}\n")
    steepest = {n: m for n, m in allocation.marginal_uniform.items() if m is not None}
    if steepest:
        best = min(steepest, key=lambda n: steepest[n])
        lines.append(f"from uniform weights, the next billion tokens are worth most in {best}\n")
    lines += [f"{held['language']} is held by its {held['limit']}\n" for held in allocation.binding]
    lines += [f"! {warning}\n" for warning in allocation.warnings]
    return "".join(lines)


def _loss(losses: dict[str, float | None] | None, language: str) -> str:
    if losses is None or language not in losses:
        return ""
    loss = losses[language]
    return "inf" if loss is None else f"{loss:.4f}"
