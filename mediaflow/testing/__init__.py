"""The whole system in virtual time, with faults: to prove our own promises, and for the tests of those who build on it.

For a test of your own handler, see :mod:`mediaflow.testing.simulation`. ``python -m mediaflow.testing --seeds N``
runs N schedules of faults drawn from seeds, and holds each history against the checkers of
:mod:`mediaflow.testing.checkers`, one for each promise.
"""

from mediaflow.testing.cluster import Cluster
from mediaflow.testing.simulation import BrokenPromise, Simulation

__all__ = ["BrokenPromise", "Cluster", "Simulation"]
