"""The paper's own data, as observations."""

from __future__ import annotations

import pytest

from blendlaw.data import code7
from blendlaw.observations import Observation, read_observations


@pytest.fixture(scope="session")
def paper_losses() -> list[Observation]:
    """The 420 single-language runs of arXiv 2512.13472."""
    return read_observations(code7("losses"))
