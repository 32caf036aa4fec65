"""A Slurm of one machine, as far as submitit and a sweep ask it: jobs really run, in arrays too.

Linked under the names of Slurm's programs. Jobs that have not ended are files in $SMALL_SLURM,
``<id>`` or ``<array>_<task>``, which hold the process group while there is one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

HERE = Path(os.environ["SMALL_SLURM"])


def sbatch(script: str) -> None:
    number = str(1 + max((int(p.name) for p in (HERE / "ids").iterdir()), default=0))
    (HERE / "ids" / number).touch()
    text = Path(script).read_text()
    found = re.search(r"^#SBATCH --array=0-(\d+)%(\d+)$", text, re.MULTILINE)
    last, at_once = map(int, found.groups()) if found else (0, 1)
    jobs = [f"{number}_{task}" if found else number for task in range(last + 1)]
    for job in jobs:
        (HERE / job).touch()
    if os.fork() == 0:
        os.setsid()
        with open(HERE / "log", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        kept = HERE / "scripts" / number
        kept.write_text(text)
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda job: run(job, kept), jobs))
        os._exit(0)
    print(f"Submitted batch job {number}")


def run(job: str, script: Path) -> None:
    array, _, task = job.partition("_")
    names = {"SLURM_JOB_ID": job.replace("_", "00"), "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    if task:
        names |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": task}
    again = HERE / f"{job}.again"
    while (HERE / job).exists():
        again.unlink(missing_ok=True)
        process = subprocess.Popen(
            ["bash", str(script)], env=os.environ | names, start_new_session=True
        )
        (HERE / job).write_text(str(process.pid))
        process.wait()
        if not again.exists():
            break
    (HERE / job).unlink(missing_ok=True)


def srun(*words: str) -> None:
    """Its step: the options that submitit gives it, then a command."""
    rest = list(words)
    ids = {
        "%j": os.environ["SLURM_JOB_ID"],
        "%A": os.environ.get("SLURM_ARRAY_JOB_ID", ""),
        "%a": os.environ.get("SLURM_ARRAY_TASK_ID", ""),
        "%t": "0",
    }
    while rest[0].startswith("--"):
        option = rest.pop(0)
        if option in ("--output", "--error"):
            path = rest.pop(0)
            for sign, value in ids.items():
                path = path.replace(sign, value)
            with open(path, "a") as file:
                os.dup2(file.fileno(), 1 if option == "--output" else 2)
    os.execvp(rest[0], rest)


def squeue(*_: str) -> None:
    if (HERE / "down").exists():
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller")
    print("\n".join(p.name for p in HERE.iterdir() if re.fullmatch(r"\d+(_\d+)?", p.name)))


def scancel(*words: str) -> None:
    job = next(word for word in words if word[0].isdigit())
    if "--signal=USR2" in words:
        return _tell(job, signal.SIGUSR2)
    _tell(job, signal.SIGTERM)
    time.sleep(0.5)
    return _tell(job, signal.SIGKILL)


def scontrol(_: str, job: str) -> None:
    """``requeue``: it ends, and begins anew."""
    (HERE / f"{job}.again").touch()
    _tell(job, signal.SIGKILL)


def _tell(job: str, sign: int) -> None:
    """Like Slurm, every process of the job; its script's shell ends as they do."""
    with suppress(FileNotFoundError, ProcessLookupError):
        group = (HERE / job).read_text()
        if not group:  # it has not begun
            return (HERE / job).unlink()
        if sign == signal.SIGUSR2:  # steps alone
            for line in subprocess.check_output(["ps", "-eo", "pid=,pgid="], text=True).split("\n"):
                pid, _, of = line.strip().partition(" ")
                if of.strip() == group and pid != group:
                    os.kill(int(pid), sign)
        else:
            os.killpg(int(group), sign)
    return None


if __name__ == "__main__":
    globals()[Path(sys.argv[0]).name](*sys.argv[1:])
