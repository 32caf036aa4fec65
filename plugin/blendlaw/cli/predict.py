"""blendlaw predict: the loss of each language that a fit expects."""

from __future__ import annotations

import json
import math

import click

from blendlaw.cli.common import json_option, load, output_option, show, table


@click.command("predict")
@click.argument("fit", type=click.Path())
@click.option("--params", type=float, required=True, help="Parameters of the model (a count).")
@click.option("--tokens", type=float, required=True, help="Training tokens in all.")
@click.option("--weights", type=click.Path(), help="JSON: {language: weight} or an allocation.")
@output_option
@json_option
def command(
    fit: str, params: float, tokens: float, weights: str | None, output: str | None, as_json: bool
) -> None:
    """Predict each language's loss after training on TOKENS at the given weights (uniform)."""
    from blendlaw.fitted import Fit
    from blendlaw.weights import read_weights

    fitted = load(fit, Fit.from_json)
    shares = None if weights is None else read_weights(weights)
    losses = fitted.predict(params, tokens, shares)
    rows = [[language, f"{loss:.4f}"] for language, loss in losses.items()]
    finite = {name: loss if math.isfinite(loss) else None for name, loss in losses.items()}
    text = table(["language", "loss (nats/token)"], rows)
    show(
        text,
        json.dumps({"params": params, "tokens": tokens, "loss": finite}, indent=1),
        output,
        as_json,
    )
