"""Rehearse a launch script on a machine without a GPU, before a cluster is asked for.

    python -m blendlaw_hooks.rehearse launch.slurm [-o rehearsal] [--indices]

The script is read and never run: its training command, as ``blendlaw check --command`` finds it,
with the environment's variables. Its flags go

1. through the rules of ``blendlaw check``;
2. unchanged through Megatron-LM's own start as rank 0 of all its ranks, up to the model; with
   ``--indices`` the run's data sets are built there, into the command's ``--data-cache-path``;
3. made small, each change printed, into a run that trains through every stage and refit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from blendlaw.errors import InputError
from blendlaw.files import read_text
from blendlaw.launches.expanding import OPEN, shown
from blendlaw.launches.flags import Launch, Open, read_launch
from blendlaw.launches.lint import lint_launch
from blendlaw.plan import MAX_BYTES, Plan, read_plan
from blendlaw_hooks.rehearse_rank import WITHOUT_ENGINE, Start, Task
from blendlaw_hooks.rehearse_small import SEQUENCE, excerpt, planned, shrink, words

OWN = ("blendlaw-plan", "blendlaw-dir")
SHOWN = 15  # lines of a log after a failure
OFF = 1.2  # how far the model's parameters may be from the plan's, as a factor


def rehearse(script: Path, out: Path, indices: bool = False) -> None:
    """All of it in order; what is found is printed.

    ``out`` must not be there yet. Raises InputError at the first thing that is wrong.
    """
    launch = _read(script)
    plan_file = Path(launch.text("blendlaw-plan"))
    plan = read_plan(plan_file)
    _checked(launch, plan)
    if out.exists():
        raise InputError("is there already: name another folder, or remove it", file=out)
    out.mkdir(parents=True)
    flags = {name: values for name, values in launch.given.items() if name not in OWN}
    environment = _environment(launch)
    _as_first_rank(launch, plan, plan_file, flags, environment, out, indices)
    _small(launch, plan, plan_file, environment, out)


def _read(script: Path) -> Launch:
    try:
        launch = read_launch(read_text(script, MAX_BYTES), environment=os.environ)
    except InputError as error:
        raise InputError(error.problem, script, column=error.column, value=error.value) from None
    for name, values in {"script": (launch.script,), **launch.given}.items():
        for value in values:
            if OPEN in value:
                problem = (
                    f"it is {shown(value)}, which only the job knows: set it in the environment"
                )
                raise InputError(problem, script, column=name if name == "script" else f"--{name}")
    if not launch.has("blendlaw-plan"):
        problem = "the command has no --blendlaw-plan: start it by -m blendlaw_hooks.launch"
        raise InputError(problem, script)
    if launch.ranks is None:
        problem = "how many ranks it starts is not told: name nodes and GPUs in it"
        raise InputError(problem, script)
    if not Path(launch.script).is_file():
        raise InputError("no such script: name a checkout of Megatron-LM", file=launch.script)
    return launch


def _checked(launch: Launch, plan: Plan) -> None:
    found = lint_launch(launch, plan)
    print(found)
    if found.of("error"):
        raise InputError("the command has errors: nothing was started")
    print("no errors\n", flush=True)


def _environment(launch: Launch) -> dict[str, str]:
    """What the script sets and Megatron asks for, on a machine of one thread a rank."""
    connections = launch.variables["CUDA_DEVICE_MAX_CONNECTIONS"]
    found = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    return found | ({} if connections is None else {"CUDA_DEVICE_MAX_CONNECTIONS": connections})


def _as_first_rank(
    launch: Launch,
    plan: Plan,
    plan_file: Path,
    flags: Mapping[str, tuple[str, ...]],
    environment: Mapping[str, str],
    out: Path,
    indices: bool,
) -> None:
    found = out / "first_rank.json"
    assert launch.ranks is not None
    task = Task(
        script=launch.script,
        flags=words(flags),
        ranks=launch.ranks,
        plan=str(plan_file),
        folder=str(out / "first_rank"),
        found=str(found),
        indices=indices,
    )
    command = [sys.executable, "-m", "blendlaw_hooks.rehearse_rank"]
    _logged(command, environment, out / "first_rank.log", given=json.dumps(asdict(task)))
    start = Start(**json.loads(found.read_text()))
    layout = " × ".join(f"{name} {size}" for name, size in start.layout.items())
    print(
        f"Megatron-LM (core {start.version}) takes it as rank 0 of {launch.ranks:,}: {layout}, "
        f"{start.steps:,} steps of {start.microbatches} microbatches a rank"
    )
    print(
        f"by its own formulas: {start.parameters / 1e9:.3g}B parameters, {start.gigabytes:.1f} GB "
        "of weights, gradients and optimizer on the fullest rank, without activations"
    )
    off = max(start.parameters / plan.run.params, plan.run.params / start.parameters)
    if off > OFF:
        print(f"warning: run.params is {plan.run.params:.3g}, of which laws will be told")
    print(
        "stood in for: the other ranks (torch's fake process groups), a GPU of capability 9.0, "
        f"Transformer Engine (absent: {' '.join(WITHOUT_ENGINE)} was added)"
    )
    if start.samples is not None:
        sets = ", ".join(f"{name} {count:,}" for name, count in start.samples.items())
        place = launch.text("data-cache-path", "nowhere, since there is no --data-cache-path")
        print(f"its data sets, built in {start.seconds:.0f} s: samples {sets}; indices: {place}")
    print(flush=True)


def _small(
    launch: Launch, plan: Plan, plan_file: Path, environment: Mapping[str, str], out: Path
) -> None:
    small = shrink(launch, len(plan.stages), out)
    flags = {name: values for name, values in small.flags.items() if name not in OWN}
    count = excerpt(plan, out)
    less = plan.run.tokens / planned(plan, flags, out).run.tokens
    print(f"the small run, on {small.ranks} ranks; changed:")
    for line in small.changed:
        print(f"  {line}")
    print(f"  plan: tokens and unique tokens ÷ {less:,.0f}, sequences of {SEQUENCE}")
    print(f"  sources: excerpts of all {count}")
    if plan.refit.where:
        print(f"  refit.where {plan.refit.where!r} is left out")
    if plan.pairs is not None:
        print("  translation pairs are left out")
    print("  modules of plain torch, no fused kernels (blendlaw_hooks.cpu)", flush=True)
    task = out / "small.json"
    task.write_text(
        json.dumps(
            {"script": launch.script, "flags": flags, "plan": str(plan_file), "out": str(out)}
        )
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={small.ranks}", "-m", "blendlaw_hooks.rehearse_small", str(task)]
    _logged(command, environment, out / "training.log", shown="blendlaw: ")
    print("rehearsed")


def _logged(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    given: str = "",
    shown: str | None = None,
) -> None:
    """Run ``command``, its output into ``log``; lines that begin with ``shown`` are printed too."""
    with (
        log.open("w") as said,
        subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(given)
        process.stdin.close()
        for line in process.stdout:
            said.write(line)
            if shown is not None and line.startswith(shown):
                print(line, end="", flush=True)
    if process.returncode:
        lines = log.read_text().splitlines()
        print("\n".join(lines[-SHOWN:]), file=sys.stderr)
        raise InputError(f"it ended with status {process.returncode}", file=log)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m blendlaw_hooks.rehearse", description=__doc__, allow_abbrev=False
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("script", type=Path, help="a launch script with blendlaw_hooks.launch")
    parser.add_argument("-o", "--output", type=Path, default=Path("rehearsal"), metavar="DIR")
    parser.add_argument(
        "--indices", action="store_true", help="also build the run's data sets, at full size"
    )
    own = parser.parse_args(argv)
    try:
        rehearse(own.script, own.output, own.indices)
    except (InputError, Open, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
