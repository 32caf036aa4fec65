"""Sweeps as jobs of Slurm: submitit's own code, a Slurm of one machine, a trainer that stands in.

The stand-in takes the place of torchrun. It takes twenty steps, with a checkpoint each, or what the
name of its run tells it to; ``starts`` in the run's folder has a line for each time it was started.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from blendlaw import cli
from blendlaw.errors import InputError
from blendlaw.sweep.job import RunJob
from blendlaw.sweep.loop import sweep
from blendlaw.sweep.runs import SweptRun, find_runs
from blendlaw.sweep.slurm import Slurm, parameters
from blendlaw.trainer_process import Failed

PLAN = """
[run]
params = 3e4
sequence_length = 64
tokens = 10240
[languages.Go]
sources = ["go"]
[trainer]
global_batch = 8
"""
TRAINER = """
import os, sys, time
from pathlib import Path

folder = Path(sys.argv[-1])
alive = folder / "alive"
try:
    state = Path(f"/proc/{alive.read_text()}/stat").read_text().rpartition(")")[2].split()[0]
except FileNotFoundError:
    state = "X"
if state not in "XZ":  # dead, or dead and not yet waited for
    (folder / "two at once").write_text(state)
alive.write_text(str(os.getpid()))
starts = folder / "starts"
before = len(starts.read_text().split()) if starts.exists() else 0
newest = max((int(p.name[5:]) for p in folder.glob("checkpoints/step-*")), default=0)
with open(starts, "a") as file:
    file.write(f"{newest}\\n")
if "bad" in folder.name or ("once" in folder.name and not before):
    print("blendlaw: error: no room", flush=True)
    sys.exit(3)
if "stuck" in folder.name:
    time.sleep(600)
for step in range(newest, 20):
    if step == 5 and not before and "waits" in folder.name:
        time.sleep(600)
    time.sleep(0.1)
    (folder / "checkpoints" / f"step-{step + 1:08d}").mkdir(parents=True)
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs of Slurm on the path; the folder of its jobs."""
    state, programs = tmp_path / "slurm", tmp_path / "bin"
    for folder in (state / "ids", state / "scripts", programs):
        folder.mkdir(parents=True)
    text = (Path(__file__).parent / "small_slurm.py").read_text()
    for name in ("sbatch", "squeue", "srun", "scancel", "scontrol"):
        (programs / name).write_text(f"#!{sys.executable}\n{text}")
        (programs / name).chmod(0o755)
    trainer = tmp_path / "stand_in" / "torch" / "distributed"
    trainer.mkdir(parents=True)
    (trainer.parent / "__init__.py").touch()
    (trainer / "__init__.py").touch()
    (trainer / "run.py").write_text(TRAINER)
    monkeypatch.setenv("SMALL_SLURM", str(state))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand_in"))
    return state


def runs_named(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "runs"
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "plan.toml").write_text(PLAN)
    return folder


def launcher(folder: Path, at_once: int = 4, **options: Any) -> Slurm:
    given = parameters(["time=30", "partition=gpu", "setup=true"])
    return Slurm(folder, at_once, 1, given, poll=0.2, settle=1.0, **options)


def do(folder: Path, at_once: int = 4, **options: Any) -> list[Failed]:
    return sweep(folder, find_runs(folder), launcher(folder, at_once), **options)


def starts(folder: Path) -> dict[str, list[int]]:
    """The steps at which each run was started; no two trained one run at once."""
    assert not list(folder.glob("*/two at once"))
    found = sorted(folder.glob("*/starts"))
    return {path.parent.name: [int(n) for n in path.read_text().split()] for path in found}


def wait_for(what: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_jobs_are_done_and_what_fails_is_submitted_again(slurm: Path, tmp_path: Path) -> None:
    folder = runs_named(tmp_path, "bad", "good", "once")
    shown = launcher(folder, 2).script(find_runs(folder))
    said: list[str] = []
    ended: list[str] = []
    failures = do(folder, 2, finished=lambda run: ended.append(run.name), say=said.append)
    assert [failure.problem for failure in failures] == ["the training failed: no room"]
    assert sorted(ended) == ["good", "once"]
    assert starts(folder) == {"bad": [0, 0], "good": [0], "once": [0, 0]}
    assert len(said) == 2
    # What was shown is what was submitted.
    assert (folder / "jobs" / "1_submission.sh").read_text() == shown
    for line in ("--array=0-2%2", "--partition=gpu", "--time=30", "--job-name=blendlaw-runs"):
        assert f"#SBATCH {line}\n" in shown
    # Once more: only what failed.
    assert len(do(folder, retries=0)) == 1
    assert starts(folder) == {"bad": [0, 0, 0], "good": [0], "once": [0, 0]}


def test_a_killed_sweep_finds_its_jobs(slurm: Path, tmp_path: Path) -> None:
    folder = runs_named(tmp_path, "a", "b", "c")
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from blendlaw.sweep.loop import sweep\nfrom blendlaw.sweep.runs import find_runs\n"
        "from blendlaw.sweep.slurm import Slurm\nfolder = Path(sys.argv[1])\n"
        "sweep(folder, find_runs(folder), Slurm(folder, 2, 1, {'time': 30}, poll=0.2))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder)]) as process:
        wait_for(lambda: (folder / "a" / "checkpoints").exists())
        process.send_signal(signal.SIGKILL)
    jobs = [run.job for run in find_runs(folder)]
    assert do(folder) == []
    assert [run.job for run in find_runs(folder)] == jobs
    assert starts(folder) == {"a": [0], "b": [0], "c": [0]}


def test_a_job_that_no_folder_names_does_not_train(slurm: Path, tmp_path: Path) -> None:
    """The sweep was killed after sbatch and before the folders had the ids."""
    folder = runs_named(tmp_path, "a", "b")
    runs = find_runs(folder)
    launcher(folder)._executor(2).submit_array([RunJob(run.folder, 1) for run in runs])
    wait_for(lambda: all((slurm / f"1_{task}").read_text() for task in (0, 1)))
    assert do(folder) == []
    assert starts(folder) == {"a": [0], "b": [0]}
    assert [run.job for run in runs] == ["2_0", "2_1"]
    for task in (0, 1):
        subprocess.run(["scancel", f"1_{task}"], check=True)


@pytest.mark.parametrize("name", ["waits", "stuck"])
def test_a_job_whose_time_is_up_goes_on(slurm: Path, tmp_path: Path, name: str) -> None:
    folder = runs_named(tmp_path, name)

    def warn(run: SweptRun) -> None:
        """Once, in the midst."""
        begun = run.folder / ("starts" if name == "stuck" else "checkpoints/step-00000005")
        if begun.exists() and not (tmp_path / "warned").exists():
            (tmp_path / "warned").touch()
            assert run.job is not None
            subprocess.run(["scancel", "--signal=USR2", run.job], check=True)

    failures = do(folder, retries=0, progress=warn)
    (begun,) = starts(folder).values()
    if name == "stuck":  # it would never get further
        assert begun == [0]
        (failure,) = failures
        assert failure.problem.startswith("the training failed: job 1 ended")
    else:
        assert failures == []
        assert begun == [0, 5]
        assert find_runs(folder)[0].job == "1", "the same job"


def test_a_cancelled_job_is_submitted_again(slurm: Path, tmp_path: Path) -> None:
    """Without a retry being used up, if it had got further."""
    folder = runs_named(tmp_path, "waits")

    def cancel(run: SweptRun) -> None:
        if run.job == "1" and (run.folder / "checkpoints/step-00000005").exists():
            subprocess.run(["scancel", run.job], check=True)

    assert do(folder, retries=0, progress=cancel) == []
    assert starts(folder) == {"waits": [0, 5]}
    assert find_runs(folder)[0].job == "2"


def test_a_queue_that_does_not_answer(slurm: Path, tmp_path: Path) -> None:
    folder = runs_named(tmp_path, "a")
    (slurm / "down").touch()
    with pytest.raises(InputError, match="squeue does not answer: slurm_load_jobs error"):
        do(folder)
    (slurm / "down").unlink()
    # For a while, once jobs are there: none is submitted twice.
    assert do(folder, progress=lambda _: (slurm / "down").touch()) == []
    assert starts(folder) == {"a": [0]}


def test_a_job_waits_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = find_runs(runs_named(tmp_path, "a"))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr("blendlaw.sweep.job.NAMING", 0.0)
    for other in (None, "8"):
        run.entrust(other)
        with pytest.raises(InputError, match="it is entrusted to another job, or to none"):
            RunJob(run.folder, 1)()
    run.entrust("7")
    run.finish()
    RunJob(run.folder, 1)()  # done already: nothing is trained
    (run.folder / "job.json").write_text("{}")
    with pytest.raises(InputError, match=r"job\.json.*not what a sweep wrote"):
        _ = run.job


def test_a_dry_run_needs_no_slurm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs_named(tmp_path, "a", "b", "c")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert shutil.which("srun") is None

    def run(*flags: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["sweep", str(folder), *flags])
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    flags = ("--ranks", "2", "--at-once", "2", "--slurm", "time=90", "--slurm", "account=lab")
    more = ("--slurm", "gpus_per_node=2", "--slurm", "setup=module load cuda")
    extra = ("--slurm", 'additional_parameters={hint = "nomultithread"}')
    status, script, _ = run(*flags, *more, *extra, "--dry-run")
    assert status == 0
    wanted = ("array=0-2%2", "account=lab", "cpus-per-task=2", "gpus-per-node=2", "time=90")
    for line in (*wanted, "hint=nomultithread", "signal=USR2@90"):
        assert f"#SBATCH --{line}\n" in script
    assert script.index("module load cuda") < script.index("\nsrun ")
    assert sorted(folder.glob("*")) == [folder / name for name in ("a", "b", "c")]
    with pytest.raises(InputError, match="no login node of a Slurm cluster"):
        do(folder)
    assert run("--dry-run")[0] == 2
    assert run("--slurm", "time=9", "--gpus", "1")[0] == 2
    for run_ in find_runs(folder):
        run_.finish()
    assert "all runs are done" in run("--slurm", "time=9", "--dry-run")[2]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["time=9", "partitoin=gpu"], "no such parameter.*did you mean 'partition'"),
        (["time=9", "zzzzzzzz=1"], "there are account, "),
        (["time=9", "nodes=2"], "a run has one node"),
        (["time=9", "array_parallelism=2"], "--at-once"),
        (["partition=gpu"], "the time of a job in minutes"),
        (["time=4:00:00"], "in minutes"),
        (["time"], "it is KEY=VALUE"),
        (["time=9", "additional_parameters=hint"], "is a table"),
    ],
)
def test_parameters_that_are_refused(given: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        parameters(given)


def test_without_submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blendlaw.sweep.slurm.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'blendlaw\[cluster\]'"):
        parameters(["time=9"])
