"""Gives pending sessions to instances, and remembers what it gave until their heartbeats show it."""

import random as randomness
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial

import structlog

from mediaflow.core import placement
from mediaflow.core.placement import Candidate, Flight
from mediaflow.runtime.clock import Clock
from mediaflow.store import Grant, InstanceRecord, Owner, PartitionView, Store, Waiting
from mediaflow.telemetry.instruments import Tally
from mediaflow.watchdog.together import together

GRANT_LIMIT = 25
"""Sessions in one request: a script stays short, and other requests of the partition get their turn."""

_log = structlog.get_logger(__name__)


class Assigner:
    """Places what a tick shows as waiting.

    Args:
        store: Where grants are made.
        accept_ttl_s: After so long an assignment that was not accepted has lapsed.
        clock: For how long something has been under way.
        random: For drawing instances, and for operation ids, which need not be secret.
        outcomes: Counts what became of the grants.
    """

    def __init__(
        self,
        store: Store,
        accept_ttl_s: float,
        *,
        clock: Clock,
        random: randomness.Random,
        outcomes: Tally,
    ) -> None:
        self._store = store
        self._accept_ttl_s = accept_ttl_s
        self._clock = clock
        self._random = random
        self._flights: tuple[Flight, ...] = ()
        self._outcomes = outcomes

    async def assign(
        self,
        views: Sequence[PartitionView],
        instances: Sequence[InstanceRecord],
        beats_at_s: Mapping[str, float],
    ) -> None:
        """Give as many waiting sessions as there is room for to instances, the oldest first.

        Args:
            views: What a tick showed.
            instances: Those that may be given sessions.
            beats_at_s: When the last heartbeat of each registered instance came.

        Raises:
            StoreUnavailable: Some of it may not have happened; the next tick shows what is still waiting.
        """
        self._flights = placement.settle(
            self._flights, beats_at_s, self._clock.monotonic_s(), self._accept_ttl_s
        )
        waiting = sorted(
            ((view.partition, one) for view in views for one in view.waiting), key=_longest_waiting_first
        )
        room = placement.discount(
            [Candidate(record.instance_id, record.free) for record in instances], self._flights
        )
        owners = {
            record.instance_id: Owner(record.instance_id, record.incarnation, record.rank)
            for record in instances
        }
        grants: dict[int, list[Grant]] = {}
        for (partition, one), chosen in placement.place(waiting, room, self._draws()):
            grants.setdefault(partition, []).append(Grant(one.ref, owners[chosen]))
        await together(self._requests(grants))

    def _requests(self, grants: Mapping[int, list[Grant]]) -> Iterator[Callable[[], Awaitable[None]]]:
        for partition, of_partition in grants.items():
            for first in range(0, len(of_partition), GRANT_LIMIT):
                yield partial(self._grant, partition, of_partition[first : first + GRANT_LIMIT])

    async def _grant(self, partition: int, batch: Sequence[Grant]) -> None:
        asked_at_s = self._clock.monotonic_s()
        try:
            statuses = await self._store.assign(partition, batch, f"{self._random.getrandbits(64):016x}")
        finally:
            # Also when no answer came: it may have happened, and then the slots are taken.
            self._take_off(batch, asked_at_s)
        outcomes = Counter(statuses)
        for outcome, count in outcomes.items():
            self._outcomes.add(outcome, by=count)
        _log.debug("assigned", partition=partition, sessions=outcomes["assigned"], asked=len(batch))

    def _take_off(self, batch: Sequence[Grant], asked_at_s: float) -> None:
        sessions: dict[str, int] = {}
        for grant in batch:
            sessions[grant.owner.instance_id] = sessions.get(grant.owner.instance_id, 0) + 1
        self._flights = (
            *self._flights,
            *(Flight(name, count, asked_at_s) for name, count in sessions.items()),
        )

    def _draws(self) -> Iterator[float]:
        while True:
            yield self._random.random()


def _longest_waiting_first(entry: tuple[int, Waiting]) -> int:
    return -entry[1].waiting_ms
