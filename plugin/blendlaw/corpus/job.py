"""The folder of a job: what has been done of it stays there until the corpus is whole."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from blendlaw.errors import InputError
from blendlaw.files import write_atomically

FOLDER = ".work"


@contextmanager
def opened_job(output: Path, request: Mapping[str, object]) -> Iterator[Path]:
    """The folder in which the job of this request is done, made or found again; locked meanwhile.

    Raises InputError if ``output`` holds a corpus or a part of one by another request, or another
    process works there; OSError.
    """
    folder = output / FOLDER
    if (output / "corpus.json").exists() and not (folder / "job.json").exists():
        raise InputError("a corpus is there already; choose another folder", file=output)
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("another blendlaw corpus works there", file=output) from None
        _same(folder / "job.json", request)
        for name in ("scan", "tokens"):
            (folder / name).mkdir(exist_ok=True)
        for part in (folder / "tokens").glob("*.part"):
            shutil.rmtree(part)
        yield folder
    finally:
        os.close(lock)


def clear(folder: Path) -> None:
    """Keep of a job that is done only what it was."""
    for name in ("scan", "tokens"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "tokenizer.json").unlink(missing_ok=True)


def _same(path: Path, request: Mapping[str, object]) -> None:
    """Note the request, or check that it is the one noted."""
    if not path.exists():
        write_atomically(path, json.dumps(request, indent=2) + "\n")
        return
    noted = json.loads(path.read_text())
    for key, value in request.items():
        if noted.get(key) != value:
            problem = f"what is there was begun with another {key}; choose another folder"
            raise InputError(problem, file=path.parents[1])
