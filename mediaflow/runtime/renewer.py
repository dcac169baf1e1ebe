"""Renews the leases of all sessions of an instance: one timer for all of them, one request for those due together.

A wheel: a lease is put under the moment at which its renewal is due, and moments are a part of the lease long. What
is due is asked for in one request, and each answer goes to who holds the lease, who is not waited for. Most leases are
in a :class:`~mediaflow.runtime.cohort.Cohort`, which is put and told of its renewal in their place.

A lease that is put under no moment again, and is in no cohort, is not renewed again.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from mediaflow.core.tenure import Rules
from mediaflow.runtime.clock import Clock
from mediaflow.runtime.cohort import Cohort, Leaseholder, muster
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.round import Round
from mediaflow.store import Lot, Renewal, Store, StoreUnavailable

log: Any = structlog.get_logger("mediaflow.renewer")

MOMENTS = 40
"""So many make up a lease: a renewal may wait this part of it for others, and thousands share a request."""

LARGEST_REQUEST = 2000
"""Leases in one request at most: one that takes longer than its deadline would be asked for again as a whole."""


_Entry = Cohort | Leaseholder


class Renewer:
    """Asks for the renewals of an instance's sessions."""

    def __init__(self, store: Store, rules: Rules, clock: Clock, meter: InstanceMeter) -> None:
        """Begin without a lease; nothing is renewed before :meth:`run`."""
        self._store = store
        self._clock = clock
        self._meter = meter
        self._rules = rules
        self._moment_s = rules.ttl_s / MOMENTS
        self._wheel: dict[int, dict[_Entry, None]] = {}
        self._changed = asyncio.Event()

    def put(self, holder: _Entry, at_s: float) -> None:
        """Have a lease renewed at the end of the moment that ``at_s`` is in, and no more when it was to be before."""
        moment = int(at_s / self._moment_s)
        if holder.moment is not None:
            if holder.moment == moment:
                return
            self.take_out(holder)
        holders = self._wheel.get(moment)
        if holders is None:
            holders = self._wheel[moment] = {}
            # It may be earlier than what is waited for.
            self._changed.set()
        holders[holder] = None
        holder.moment = moment

    def put_first(self, holder: Leaseholder) -> None:
        """Have a lease renewed in the next turn of the event loop."""
        self.put(holder, -self._moment_s)  # the moment before all that the clock has

    def take_out(self, holder: _Entry) -> None:
        """Have a lease renewed no more."""
        if holder.moment is None:
            return
        holders = self._wheel[holder.moment]
        del holders[holder]
        if not holders:
            del self._wheel[holder.moment]
        holder.moment = None

    async def run(self) -> None:
        """Renew what is due, for ever."""
        async with asyncio.TaskGroup() as requests:
            while True:
                await self._pause()
                for due in _requests(self._take_due()):
                    requests.create_task(self._renew(due), name="renewals")

    async def _pause(self) -> None:
        """Wait until something is due."""
        while True:
            self._changed.clear()
            wait_s = None
            if self._wheel:
                wait_s = (min(self._wheel) + 1) * self._moment_s - self._clock.monotonic_s()
                if wait_s <= 0:
                    await asyncio.sleep(0)  # who else is in haste in this turn of the event loop comes along
                    return
            timer = None
            if wait_s is not None:
                timer = asyncio.get_running_loop().call_later(wait_s, self._changed.set)
            try:
                await self._changed.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    def _take_due(self) -> Iterator[_Entry]:
        now_s = self._clock.monotonic_s()
        for moment in sorted(moment for moment in self._wheel if (moment + 1) * self._moment_s <= now_s):
            for holder in self._wheel.pop(moment):
                holder.moment = None
                yield holder

    async def _renew(self, due: Sequence[_Entry]) -> None:
        round_ = Round(self._clock.monotonic_s(), self._rules, self._store.generation)
        asking = muster(due, round_)
        if not asking:
            return
        lots = [cohort.ask(round_, self._store) for cohort in asking]
        self._meter.lateness.observe_all(round_.late_s)
        answers = await self._ask(lots, round_.patience_s())
        round_.heard_at_s = self._clock.monotonic_s()
        round_.is_same_server = self._store.generation == round_.generation
        for cohort, heard in zip(asking, answers, strict=True):
            cohort.hear(heard, round_)
            if cohort.term is not None and len(cohort):
                self.put(cohort, cohort.term.until.renew_at_s)
        round_.count(self._meter)

    async def _ask(
        self, lots: Sequence[Lot], patience_s: float | None
    ) -> Sequence[Sequence[Renewal | Exception]]:
        try:
            async with asyncio.timeout(patience_s):
                return await self._store.renew_many(lots)
        except TimeoutError:
            failure: Exception = StoreUnavailable("no answer in time")
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                log.exception("renewer.failed", leases=sum(len(lot.items) for lot in lots))
            failure = error
        return [[failure] * len(lot.items) for lot in lots]


def _requests(due: Iterator[_Entry]) -> Iterator[Sequence[_Entry]]:
    """Divide what is due into requests that are not too large."""
    found: list[_Entry] = []
    leases = 0
    for entry in due:
        more = len(entry) if isinstance(entry, Cohort) else 1
        if leases + more > LARGEST_REQUEST:
            yield found
            found, leases = [], 0
        found.append(entry)
        leases += more
    if found:
        yield found
