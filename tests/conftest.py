"""The paper's own data, as observations; and how hypothesis runs."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from blendlaw.data import code7
from blendlaw.observations import Observation, read_observations

# A busy machine is no failure; and CI draws the same examples each time, so that what lands does
# not hang on luck. Runs by hand go on searching.
settings.register_profile("default here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default here")


@pytest.fixture(scope="session")
def paper_losses() -> list[Observation]:
    """The 420 single-language runs of arXiv 2512.13472."""
    return read_observations(code7("losses"))
