"""What ``blendlaw check`` says of a training command and of what is installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from blendlaw.precision import Version, dotted, version

if TYPE_CHECKING:
    from blendlaw.environment import Environment, Part
    from blendlaw.launches.lint import LaunchLint
    from blendlaw.plan import Plan


def megatron(context: click.Context, option: click.Parameter, given: str | None) -> Version | None:
    """The version in ``--megatron``."""
    found = None if given is None else version(given)
    if given is not None and found is None:
        raise click.BadParameter(f"{given!r} is not a version such as 0.16.1", context, option)
    return found


def lint_command(
    file: str,
    gpus: int | None,
    megatron: Version | None,
    plan: Plan | None,
    environment: Environment | None,
) -> LaunchLint:
    """The lint of a script, ``-`` for stdin; what is not known of the machine is not missed."""
    from blendlaw.errors import InputError
    from blendlaw.files import read_text
    from blendlaw.launches.flags import read_launch
    from blendlaw.launches.fp8 import Machine
    from blendlaw.launches.lint import lint_launch
    from blendlaw.plan import MAX_BYTES

    if file == "-" and sys.stdin is None:
        raise InputError("standard input is closed", file="<stdin>")
    text = sys.stdin.read(MAX_BYTES) if file == "-" else read_text(file, MAX_BYTES)
    try:
        launch = read_launch(text, gpus, megatron)
    except InputError as error:
        raise InputError(error.problem, file, column=error.column, value=error.value) from None
    machine = Machine()
    if environment is not None:
        capability = environment.capability or machine.capability
        fused = "fused_weight_gradient_mlp_cuda" in environment["apex"].kernels
        machine = Machine(capability, environment.engine, environment.cuda, fused)
    return lint_launch(launch, plan, machine)


def told(environment: Environment) -> str:
    """The parts as a table, then the precisions that they allow."""
    rows = [[part.part, part.version or "", _about(part)] for part in environment.parts]
    width = max(len(row[0]) for row in rows)
    height = max(len(row[1]) for row in rows)
    lines = [f"{name:{width}}  {number:{height}}  {what}".rstrip() for name, number, what in rows]
    there = "here" if environment.capability else "with a Hopper GPU"
    missed = environment.precisions()
    if not environment.capability:
        missed.pop("mxfp8")
    good = [name for name, missing in missed.items() if not missing]
    lines.append(f"precisions {there}: {', '.join(good) or 'none'}")
    lines += [f"not {name}: needs {', '.join(each)}" for name, each in missed.items() if each]
    return "\n".join(lines)


def _about(part: Part) -> str:
    if part.problem:
        return part.problem
    names = [f"{name}, capability {dotted(capability)}" for name, capability in part.gpus]
    counted = [f"{names.count(name)} × {name}" for name in dict.fromkeys(names)]
    cuda = [f"CUDA {part.cuda}" if part.cuda else "without CUDA"] if part.part == "torch" else []
    return "; ".join([*cuda, *counted, *part.kernels])
