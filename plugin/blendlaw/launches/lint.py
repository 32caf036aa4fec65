"""All that is known to be wrong with a training command."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from blendlaw.errors import InputError
from blendlaw.launches import fp8, parallel, schedules
from blendlaw.launches.expanding import shown
from blendlaw.launches.flags import Finding, Launch, Open, error

if TYPE_CHECKING:
    from blendlaw.plan import Plan


@dataclass(frozen=True)
class LaunchLint:
    """``findings`` of a command; ``notes`` say what could not be checked."""

    script: str
    gpus: int | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        count = "an unknown number of" if self.gpus is None else f"{self.gpus:,}"
        lines = [f"command: {self.script} on {count} GPUs"]
        lines += [f"note: {note}" for note in self.notes]
        for level in ("warning", "error"):
            lines += [f"{level}: {finding}" for finding in self.of(level)]
        return "\n".join(lines)

    def of(self, level: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == level]


def lint_launch(
    launch: Launch, plan: Plan | None = None, machine: fp8.Machine | None = None
) -> LaunchLint:
    """Hold ``launch`` against Megatron's constraints, the machine's and the plan's."""
    rules = [partial(rule, launch) for rule in (*parallel.RULES, *schedules.RULES)]
    rules += [partial(rule, launch, machine or fp8.Machine()) for rule in fp8.RULES]
    if plan is not None:
        from blendlaw.launches import staged  # with the plan comes pydantic

        rules += [partial(rule, launch, plan) for rule in staged.RULES]
    found = list(launch.malformed)
    notes = list(launch.notes)
    for rule in rules:
        try:
            found += rule()
        except Open as unknown:
            notes.append(f"not all checked: {unknown}")
        except InputError as wrong:
            flag = wrong.column or ""
            found.append(
                error(flag, str(InputError(wrong.problem, value=wrong.value)), "correct it")
            )
    script = shown(launch.script)
    return LaunchLint(
        script, launch.ranks, tuple(dict.fromkeys(found)), tuple(dict.fromkeys(notes))
    )
