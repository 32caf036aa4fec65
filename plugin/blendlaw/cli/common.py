"""What the commands share: where output goes and how a table looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from blendlaw.errors import InputError
from blendlaw.files import read_text, require_writable, write_atomically
from blendlaw.nearest import nearest

T = TypeVar("T")
SHOWN = 10  # skipped rows, of which more are only counted


def _writable(context: click.Context, option: click.Parameter, output: str | None) -> str | None:
    """Refuse at once what would be refused after minutes of work."""
    if output is not None:
        require_writable(output)
    return output


output_option = click.option(
    "-o", "--output", type=click.Path(), callback=_writable, help="Write here instead of stdout."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")


def log(message: str) -> None:
    """A line for the person, on stderr."""
    click.echo(message, err=True)


def emit(text: str, output: str | None = None) -> None:
    """Data: to ``output`` (whole or not at all) or to stdout."""
    if not text.endswith("\n"):
        text += "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        write_atomically(output, text)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> str:
    """A plain text table; the first column is aligned left, the others right."""
    # Text, not markup: a language may be named "[red]".
    drawn = Table(title=title and Text(title), box=None, pad_edge=False, title_justify="left")
    for number, column in enumerate(columns):
        drawn.add_column(Text(column), justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def show(table_text: str, json_text: str, output: str | None, as_json: bool) -> None:
    """A result: JSON to ``output`` with the table on stderr, or one of both on stdout."""
    if output is not None:
        emit(json_text, output)
        log(table_text.rstrip("\n"))
    else:
        emit(json_text if as_json else table_text)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, to be told (done, total); silent when stderr is not a terminal."""
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def load(path: str, parse: Callable[[str], T]) -> T:
    """``parse`` of a file's text. Raises InputError, with the file named, if it is not that."""
    try:
        return parse(read_text(path))
    except InputError as error:
        error.file = error.file or path
        raise


class ByLanguage(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic from 8.2
    """A number for all languages, ``0.05``, or for one, ``Python=0.05``."""

    name = "number or language=number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str | None, float]:
        if isinstance(value, tuple):
            return value
        language, equals, number = str(value).rpartition("=")
        try:
            return (language if equals else None, float(number))
        except ValueError:
            self.fail(f"{value!r} is neither a number nor language=number", param, ctx)


def by_language(
    values: Sequence[tuple[str | None, float]], option: str, languages: Sequence[str]
) -> dict[str, float] | None:
    """What a repeated ``ByLanguage`` option says of each language; None if it was not given.

    Raises InputError where a language is unknown or named twice.
    """
    if not values:
        return None
    found: dict[str, float] = {}
    for language, number in values:
        if language is None:
            continue
        if language not in languages:
            raise InputError(
                f"{option}: unknown language {language!r}{nearest(language, languages)}"
            )
        if language in found:
            raise InputError(f"{option} is given twice for {language}")
        found[language] = number
    general = [number for language, number in values if language is None]
    if len(general) > 1:
        raise InputError(f"{option} is given twice for all languages", value=general[1])
    return dict.fromkeys(languages, general[0]) | found if general else found


class Skipped:
    """Bad rows: the first one refuses all, or with ``skip_bad`` they are counted and shown."""

    def __init__(self, skip_bad: bool) -> None:
        self._skip_bad = skip_bad
        self.count = 0

    def __call__(self, error: InputError) -> None:
        if not self._skip_bad:
            raise error
        self.count += 1
        if self.count <= SHOWN:
            log(f"skipped {' '.join(str(error).split())}")

    def say_how_many(self) -> None:
        if self.count:
            more = f", {self.count - SHOWN:,} of them not shown" if self.count > SHOWN else ""
            log(f"skipped {self.count:,} bad row{'s' if self.count > 1 else ''} in all{more}")
