"""The folder of a job: what has been done of it stays there until the corpus is whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from blendlaw.errors import InputError
from blendlaw.files import write_atomically

FOLDER = ".work"
STEPS = ("scan", "tokens")


@contextmanager
def opened_job(output: Path, request: Mapping[str, object]) -> Iterator[Path]:
    """The folder in which the job of this request is done, made or found again; locked meanwhile.

    Raises InputError if ``output`` holds a corpus or a part of one by another request, or another
    process works there; OSError.
    """
    folder = output / FOLDER
    if (output / "corpus.json").exists() and not (folder / "job.json").exists():
        raise InputError("a corpus is there already; choose another folder", file=output)
    with locked(folder, STEPS):
        same_request(folder / "job.json", request)
        for part in (folder / "tokens").glob("*.part"):
            shutil.rmtree(part)
        yield folder


@contextmanager
def locked(folder: Path, steps: Sequence[str], lock: str = "lock") -> Iterator[None]:
    """``folder`` with a folder in it for each of ``steps``, held by one process at a time.

    Raises InputError if another process holds ``lock`` there; OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder / lock, os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("another blendlaw works there", file=folder.parent) from None
        for name in steps:
            (folder / name).mkdir(exist_ok=True)
        yield
    finally:
        os.close(held)


def clear(folder: Path, steps: Sequence[str] = STEPS) -> None:
    """Keep of a job that is done only what it was."""
    for name in steps:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "tokenizer.json").unlink(missing_ok=True)


def same_request(path: Path, request: Mapping[str, object]) -> None:
    """Note the request, or check that it is the one noted. Raises InputError, OSError."""
    if not path.exists():
        write_atomically(path, json.dumps(request, indent=2) + "\n")
        return
    noted = json.loads(path.read_text())
    for key, value in request.items():
        if noted.get(key) != value:
            problem = f"what is there was begun with another {key}; choose another place"
            raise InputError(problem, file=path.parents[1])
