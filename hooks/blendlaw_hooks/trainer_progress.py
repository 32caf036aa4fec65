"""The trainer's progress bar: on the one rank that shows it, and only where someone watches."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Bar:
    """Steps of ``tokens`` tokens each, from ``step`` to ``steps``; nothing where not ``shown``."""

    def __init__(self, step: int, steps: int, tokens: int, shown: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Speed(tokens),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._progress.add_task("", total=steps, completed=step)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, step: int, stage: str) -> None:
        """``step`` steps are done; the last was of ``stage``."""
        self._progress.update(self._task, completed=step, description=stage)


class _Speed(ProgressColumn):
    def __init__(self, tokens: int) -> None:
        super().__init__()
        self._tokens = tokens

    def render(self, task: Task) -> Text:
        """Tokens a second, of late."""
        return Text("" if task.speed is None else f"{task.speed * self._tokens:,.0f} tokens/s")
