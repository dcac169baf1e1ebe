"""Somebody's own handler, put through what befalls handlers in production, in milliseconds of real time.

In a test, with pytest (``pytest_plugins = ["mediaflow.testing.plugin"]``)::

    def test_no_call_is_billed_by_two(simulation):
        simulation.torment(lambda cluster: Biller(FakeBank(cluster)), metadata={"cents": 5})

where ``FakeBank.charge`` calls ``cluster.effect(session, "charged")`` in place of a real bank. An effect that
comes after another owner has started is a broken promise, and so is everything that the checkers know.
"""

from collections.abc import Callable, Collection, Coroutine
from typing import Any

from mediaflow.runtime.session import Handler
from mediaflow.testing.cluster import Cluster
from mediaflow.testing.history import transcript
from mediaflow.testing.plan import torment
from mediaflow.testing.run import Verdict, run_plan, run_scenario

LINES_SHOWN = 60


class BrokenPromise(AssertionError):
    """A run in which something happened that must not; its text says what, and shows what led to it."""


class Simulation:
    """Runs in virtual time; what the fixture ``simulation`` gives."""

    def torment(
        self,
        make_handler: Callable[[Cluster], Handler],
        *,
        metadata: dict[str, Any] | None = None,
        faults: Collection[str] = ("kill", "pause", "partition"),
        seeds: int = 25,
        first: int = 0,
    ) -> None:
        """Run calls with a handler while instances are killed, paused and cut off; 20 ms or so for each seed.

        Args:
            make_handler: Returns the handler for one run, given the cluster that it will run in.
            metadata: Of the calls.
            faults: Kinds, of :data:`mediaflow.testing.plan.TORMENTS`.
            seeds: How many runs, each with other faults at other moments.
            first: The first seed: to repeat one run, with ``seeds=1``.

        Raises:
            BrokenPromise: A promise was broken, with the seed to repeat it.
        """
        for seed in range(first, first + seeds):
            plan = torment(seed, metadata or {}, faults)
            _demand(run_plan(plan, make_handler), f"first={seed}, seeds=1")

    def play(
        self, scenario: Callable[[Cluster], Coroutine[Any, Any, None]], *, seeds: int = 1, first: int = 0
    ) -> None:
        """Run a scenario: a coroutine function that starts instances and does things to them.

        Args:
            scenario: Is given a cluster with Redis, a balancer and a watchdog, and nothing else.
            seeds: How many times, each with other delays and another order of things.
            first: The first seed.

        Raises:
            BrokenPromise: A promise was broken, with the seed to repeat it.
        """

        async def whole(cluster: Cluster) -> None:
            cluster.start_balancer()
            cluster.start_watchdog()
            await scenario(cluster)
            cluster.recorder.sealed = True

        for seed in range(first, first + seeds):
            _demand(run_scenario(seed, whole), f"first={seed}, seeds=1")


def _demand(verdict: Verdict, again: str) -> None:
    if not verdict.violations:
        return
    worst = verdict.violations[0]
    before = [one for one in verdict.history if one.at_s <= worst.at_s][-LINES_SHOWN:]
    broken = "\n".join(
        f"  {one.guarantee} at {one.at_s:.3f} s: {one.message}" for one in verdict.violations[:5]
    )
    raise BrokenPromise(
        f"seed {verdict.seed} breaks a promise (again: {again}):\n{broken}\nWhat led to it:\n{transcript(before)}"
    )
