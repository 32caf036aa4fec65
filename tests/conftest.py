"""The paper's own data, as observations; and how hypothesis runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from hypothesis import settings

with suppress(ImportError):  # torch wants it before anybody has imported Python's own distutils
    import setuptools  # noqa: F401

from blendlaw.data import code7
from blendlaw.observations import Observation, read_observations

# A busy machine is no failure; and CI draws the same examples each time, so that what lands does
# not hang on luck. Runs by hand go on searching.
settings.register_profile("default here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default here")


@pytest.fixture
def kill_until_done() -> Callable[..., int]:
    """A job that is killed at random moments until it ends by itself; how often that was."""

    def killed(
        command: Sequence[str],
        draw: random.Random,
        most: int,
        written: Callable[[], int],
        after: Callable[[], None] = lambda: None,
    ) -> int:
        """Each time once up to ``most`` more files are ``written``; ``after`` each kill."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        kills = 0
        while True:
            process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
            enough = written() + draw.randrange(most)
            while process.poll() is None and written() < enough:
                time.sleep(0.002)
            time.sleep(draw.random() / 20)
            if process.poll() is None:
                process.kill()
                kills += 1
            said = process.communicate()[1].decode()
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 0, said
                return kills
            after()

    return killed


@pytest.fixture(scope="session")
def paper_losses() -> list[Observation]:
    """The 420 single-language runs of arXiv 2512.13472."""
    return read_observations(code7("losses"))
