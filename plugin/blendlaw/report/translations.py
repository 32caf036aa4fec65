"""What checkpoints translate, side by side: data of a figure, tables and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from blendlaw.pairs.translation import Direction, Score, Translation, name_of
from blendlaw.report.directions import NOT_BESIDE, TRAINED, UNTRAINED
from blendlaw.report.figures import Dots, count
from blendlaw.report.tables import MAX_MATRIX, STRONGEST, Cell, Row, Table
from blendlaw.report.words import span_of

MAX_DIRECTIONS = 400  # rows of a table
FAINT = 0.15  # the tone of the lowest loss: what was judged is never without colour
RAMP = round(STRONGEST * FAINT), STRONGEST  # the same in percent of colour, from end to end
UNIT = "nats per token of the translation"


def named(found: Sequence[Translation]) -> dict[str, Translation]:
    """Each by its run, and with a number where several are of one run."""
    times = Counter(one.run for one in found)
    return {
        one.run if times[one.run] == 1 else f"{number}: {one.run}": one
        for number, one in enumerate(found, 1)
    }


def means(found: Mapping[str, Translation]) -> Dots | None:
    """The means of trained and of untrained directions; None with nothing to compare."""
    rows = {
        (group, name): score
        for group in (TRAINED, UNTRAINED)
        for name, one in found.items()
        if (score := _mean(one, group)) is not None
    }
    if len(found) < 2 or not rows:
        return None
    said = [f"{group} {name} {score.loss:.3f}" for (group, name), score in rows.items()]
    return Dots(
        tuple(rows),
        tuple(score.loss for score in rows.values()),
        tuple(score.interval for score in rows.values()),
        "loss, nats per token",
        f"Mean loss of translations: {', '.join(said)} nats per token",
    )


def reach(found: Mapping[str, Translation]) -> tuple[float, float]:
    """The lowest and the highest loss of any direction: where colours begin and end."""
    losses = [one.score.loss for each in found.values() for one in each.directions]
    return min(losses, default=0.0), max(losses, default=0.0)


def heat_table(found: Translation, reach: tuple[float, float]) -> Table:
    """The loss from each language (rows) to each (columns); untrained directions are hatched."""
    low, high = reach
    by_pair = {(one.source, one.target): one for one in found.directions}
    languages = sorted({name for pair in by_pair for name in pair}, key=str.casefold)
    shown = languages[:MAX_MATRIX]

    def cell(one: Direction | None) -> Cell:
        if one is None:
            return Cell("·")
        part = (one.score.loss - low) / (high - low) if high > low else 0.0
        tone = FAINT + (1 - FAINT) * part
        return Cell(f"{one.score.loss:.2f}", tone=tone, hatched=not one.trained)

    rows = [
        Row(
            source,
            tuple(
                Cell("") if source == target else cell(by_pair.get((source, target)))
                for target in shown
            ),
        )
        for source in shown
    ]
    caption = ""
    if len(shown) < len(languages):
        caption = f"The first {MAX_MATRIX} of {len(languages)} languages; the file has all."
    return Table(tuple(shown), tuple(rows), caption)


def score_table(found: Translation) -> Table:
    """Every direction, trained ones first, below the two means."""
    scores = [(f"all {group}", group, _mean(found, group)) for group in (TRAINED, UNTRAINED)]
    ordered = sorted(found.directions, key=lambda one: (not one.trained, name_of(one)))
    scores += [
        (name_of(one), TRAINED if one.trained else UNTRAINED, one.score)
        for one in ordered[:MAX_DIRECTIONS]
    ]
    rows = [
        Row(
            name,
            (
                Cell(group),
                Cell(f"{score.loss:.4f}", span_of(score.interval, ".4f")),
                Cell(f"{score.pairs:,}"),
                Cell(f"{score.tokens:,}"),
            ),
        )
        for name, group, score in scores
        if score is not None
    ]
    caption = f"Losses in {UNIT}, with 90% intervals over tasks."
    if len(ordered) > MAX_DIRECTIONS:
        caption += f" {MAX_DIRECTIONS} of {len(ordered)} directions; the file has all."
    return Table(("trained or not", "loss", "pairs", "tokens"), tuple(rows), caption, "direction")


def translation_headline(found: Mapping[str, Translation]) -> str:
    """The two means, of every run."""
    said = []
    for group in (TRAINED, UNTRAINED):
        told = [
            f"{score.loss:.3f}" + (f" ({name})" if len(found) > 1 else "")
            for name, one in found.items()
            if (score := _mean(one, group)) is not None
        ]
        if told:
            said.append(f"{', '.join(told)} nats per token in {group} directions")
    if not said:
        return "No direction of translation was judged."
    return f"Translations are predicted at {'; '.join(said)}."


def translations_text(found: Mapping[str, Translation]) -> str:
    """What is shown, and how to read it."""
    text = (
        "Mean −log P(translation | program) per token of the translation: the lower, "
        "the better. Row: the language translated from. Column: to."
    )
    if len(found) > 1:
        text += (
            " Each interval resamples the tasks of one run: on the same tasks, the difference "
            "between two is surer than their intervals look."
        )
    return f"{text} {NOT_BESIDE}"


def translation_text(one: Translation) -> str:
    """What was judged, and on what."""
    text = (
        f"Step {one.step:,}: {count(one.params)} parameters after {count(one.tokens)} tokens. "
        f"{one.tasks:,} held-out tasks, as documents of the strategy {one.strategy}."
    )
    if one.too_long:
        text += f" {one.too_long:,} pairs were too long."
    return text


def unlike(found: Mapping[str, Translation]) -> list[str]:
    """In what, other than what they learnt, those compared differ."""
    each = found.values()
    told = []
    if len({frozenset((name_of(d), d.trained) for d in one.directions) for one in each}) > 1:
        told.append("Other directions were trained or judged: the means are over other sets.")
    if len({(one.strategy, one.tasks, one.too_long) for one in each}) > 1:
        told.append("They were judged on other tasks, or by another strategy.")
    if len({(one.params, one.tokens) for one in each}) > 1:
        told.append("They differ in parameters or training tokens.")
    return told


def _mean(one: Translation, group: str) -> Score | None:
    return one.trained if group == TRAINED else one.untrained
