"""Finds the mistake of the careless biller, and none in the careful one; seconds of real time for both."""

import pytest
from biller import Biller, CarelessBiller

from mediaflow import Session
from mediaflow.testing import BrokenPromise, Cluster, Simulation

pytest_plugins = ["mediaflow.testing.plugin"]


class FakeBank:
    """Tells the simulation of each charge in place of making it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def charge(self, session: Session, second: int) -> None:
        self._cluster.effect(session, f"second {second}")


def test_nobody_charges_for_a_call_that_another_has_taken_over(simulation: Simulation) -> None:
    simulation.torment(lambda cluster: Biller(FakeBank(cluster)), seeds=8)


def test_without_the_check_a_paused_worker_charges_on_when_it_wakes_up(simulation: Simulation) -> None:
    with pytest.raises(BrokenPromise, match="effect"):
        simulation.torment(lambda cluster: CarelessBiller(FakeBank(cluster)), seeds=30)
