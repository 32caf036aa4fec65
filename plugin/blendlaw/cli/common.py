"""What the commands share: where output goes and how a table looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from blendlaw.files import write_atomically

F = TypeVar("F", bound=Callable[..., Any])

output_option = click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="Write here instead of stdout."
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
    drawn = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for number, column in enumerate(columns):
        drawn.add_column(column, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        # Text, not markup: a language may be named "[red]".
        drawn.add_row(*[_plain(cell) for cell in row])
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _plain(cell: str) -> Any:
    from rich.text import Text

    return Text(cell)
