"""The report: one page of HTML that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from blendlaw.errors import InputError
from blendlaw.report import figures, run_words, sections, tables, translations, words
from blendlaw.report.outcome import outcomes
from blendlaw.report.training import of_direction

if TYPE_CHECKING:
    from blendlaw.allocation import Allocation
    from blendlaw.fitted import Fit
    from blendlaw.observations import Observation
    from blendlaw.pairs.translation import Translation
    from blendlaw.report.training import TrainingRun
    from blendlaw.synergy import Synergy


def render(
    *,
    run: TrainingRun | None = None,
    observations: Sequence[Observation] = (),
    fit: Fit | None = None,
    synergy: Synergy | None = None,
    allocation: Allocation | None = None,
    weights: Mapping[str, Mapping[str, float]] | None = None,
    judged: Sequence[Translation] = (),
) -> str:
    """The page, from whatever is given; ``weights`` are further blends, by name, to show beside
    the allocation's, ``judged`` checkpoints to show side by side. The same input gives the
    same text.

    What a ``run`` measured is drawn as its curves, and with the other observations only where
    there are any or a fit of them; losses of directions of translation are never among those.
    Raises InputError if nothing is given, or if matplotlib or
    jinja2 is not installed.
    """
    observations = [seen for seen in observations if not of_direction(seen)]
    given = bool(observations) or not (fit is None and synergy is None and allocation is None)
    if not given and run is None and not judged:
        raise InputError(
            "a report needs observations, a fit, a synergy, an allocation, a translation or a run"
        )
    if run is not None and (observations or fit is not None):
        observations = [*observations, *run.observations]
    try:
        from jinja2 import Environment, StrictUndefined

        from blendlaw.report import charts
    except ImportError as error:
        raise InputError(
            f"the report needs matplotlib and jinja2: pip install 'blendlaw[report]' ({error})"
        ) from error
    extra = dict(weights or {})
    found = () if run is None else outcomes(run)
    headline = [] if run is None else run_words.run_headline(run, found)
    if given:
        headline += words.headline(observations, fit, synergy, allocation)
    by_name = translations.named(judged)
    if by_name:
        headline.append(translations.translation_headline(by_name))
    bars = None if allocation is None else figures.weight_bars(allocation, fit, extra)
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"colour": figures.hue_of, "ramp": translations.RAMP}
    template = environment.from_string(
        (files("blendlaw.report") / "page.html.j2").read_text(encoding="utf-8")
    )
    page = template.render(
        headline=headline,
        facts=([] if run is None else run_words.run_facts(run, found))
        + words.facts(observations, fit, allocation),
        run=None if run is None else sections.run_part(run, found),
        translation=sections.translation_part(by_name) if by_name else None,
        allocation=allocation,
        bars=bars,
        bars_svg="" if bars is None else charts.bars(bars, "weights"),
        marks=[] if bars is None else charts.legend(bars),
        weight_table=None if allocation is None else tables.weight_table(allocation, extra),
        gains=[] if allocation is None else words.gain_lines(allocation),
        groups=sections.groups(observations, fit, allocation),
        matrices=sections.matrices(fit, synergy),
        fit=fit,
        fit_table=None if fit is None else tables.fit_table(fit),
        fit_warnings=[] if fit is None else words.fit_warnings(fit),
        provenance=None if fit is None else words.provenance(fit),
    )
    return page.encode(errors="replace").decode()  # lone surrogates, which JSON may hold
