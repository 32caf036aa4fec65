"""The demo's run in order: code, corpus, plan, training, and what came of it.

Killed and started again it goes on where it stood; once done it only tells the outcome again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

from blendlaw.corpus.options import Options
from blendlaw.corpus.prepare import prepare
from blendlaw.corpus.result import Corpus
from blendlaw.demo.outcome import Outcome, draw, tell
from blendlaw.demo.size import Size, plan_text
from blendlaw.demo.tour import FILES as TOUR
from blendlaw.files import read_text, write_atomically
from blendlaw.plan import read_plan
from blendlaw.report.training import is_run
from blendlaw.samplecode import SampleCode, sample_code
from blendlaw.trainer_process import train

DONE = "demo.json"
VALID_SHARE = 0.1  # of few and unlike files: enough that no one of them decides
Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def run(
    folder: Path,
    size: Size,
    *,
    bar: Bar = lambda _: nullcontext(lambda _done, _total: None),
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Train a run of ``size`` in ``folder``, or go on there, and write what came of it.

    Raises InputError, also where the training failed; OSError.
    """
    done = folder / DONE
    seconds: dict[str, float] = {}
    if done.exists():
        say(f"{folder} has the whole run already: remove it to train again")
        seconds = json.loads(read_text(done))["seconds"]
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with _timed(seconds, "code"):
            code = _code(folder, size, say)
        with _timed(seconds, "corpus"):
            corpus = _corpus(folder / "corpus", code, size, bar, say)
        plan_file = folder / "plan.toml"
        if not is_run(folder):  # else it stays as the run began
            for name in TOUR:
                (folder / name).unlink(missing_ok=True)
            write_atomically(plan_file, plan_text(size, corpus, folder / "corpus"))
        plan = read_plan(plan_file)
        say(f"training; what it says is in {folder / 'training.log'}")
        with _timed(seconds, "training"), bar("training") as progress:
            train(plan, plan_file, size.ranks, progress, say)
    outcome = tell(folder, seconds)
    with _timed(seconds, "report"):
        draw(outcome)
    write_atomically(done, json.dumps(asdict(outcome), indent=2, ensure_ascii=False) + "\n")
    return outcome


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[what] = round(time.monotonic() - began, 1)


def _code(folder: Path, size: Size, say: Callable[[str], None]) -> SampleCode:
    """Sample code; generated where it was before, since a corpus may have been made of it."""
    place = folder / "code"
    before = (place / "generated" / "manifest.json").exists()
    return sample_code(place, size.megabytes, generated=size.generated or before, progress=say)


def _corpus(
    folder: Path, code: SampleCode, size: Size, bar: Bar, say: Callable[[str], None]
) -> Corpus:
    options = Options(vocab_size=size.vocabulary, valid_share=VALID_SHARE)
    files = [(language, str(path)) for language, path in code.files.items()]
    workers = len(os.sched_getaffinity(0))
    return prepare(files, folder, options, workers=workers, bar=bar, say=say)
