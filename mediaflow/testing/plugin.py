"""The pytest fixture ``simulation``; ask for it with ``pytest_plugins = ["mediaflow.testing.plugin"]``."""

import pytest

from mediaflow.testing.simulation import Simulation


@pytest.fixture
def simulation() -> Simulation:
    """Return what runs handlers in virtual time; see :class:`mediaflow.testing.Simulation`."""
    return Simulation()
