"""Renews the leases of all sessions of an instance: one timer for all of them, one request for those due together.

A wheel: a lease is put under the moment at which its renewal is due, and moments are a part of the lease long. What
is due is asked for in one request, and each answer goes to who holds the lease, who is not waited for. Most answers
change three numbers, and wake nobody.

A lease that nobody puts under a moment again is not renewed again: see :class:`Leaseholder`.
"""

import asyncio
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import structlog

from mediaflow.core import lease
from mediaflow.core.tenure import Rules
from mediaflow.runtime.clock import Clock
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.store import Holding, Renewal, Store, StoreUnavailable

log: Any = structlog.get_logger("mediaflow.renewer")

MOMENTS = 40
"""So many make up a lease: a renewal may wait this part of it for others, and thousands share a request."""

LARGEST_REQUEST = 2000
"""Leases in one request at most: one that takes longer than its deadline would be asked for again as a whole."""


class Round:
    """One request: what all whose leases go out with it share.

    Attributes:
        sent_at_s, heard_at_s: When it was sent, and when its answer came.
        generation: Of the server, see :attr:`~mediaflow.store.Store.generation`; when it was looked at last.
        answer_by_s: When at the latest the answer has to be there, for coroutines that are to be stopped in time.
        late_s: By how much each of its renewals was late.
        left_s: What was left of each lease that it renewed.
    """

    def __init__(self, sent_at_s: float, ttl_s: float, generation: int) -> None:
        """Begin with nobody."""
        self.generation = generation
        self.sent_at_s = self.heard_at_s = sent_at_s
        self.answer_by_s = math.inf
        self.late_s: list[float] = []
        self.left_s: list[float] = []
        self._ttl_s = ttl_s
        self._until: dict[float, lease.Deadlines] = {}

    def patience_s(self) -> float | None:
        """Return for how long to wait for the answer; None if nobody minds."""
        return None if self.answer_by_s == math.inf else max(0.0, self.answer_by_s - self.sent_at_s)

    def until(self, place: float) -> lease.Deadlines:
        """Return the deadlines of a lease that it renews, by the lease's place in the interval."""
        found = self._until.get(place)
        if found is None:
            spread = lease.spread_towards(place, self.sent_at_s, self._ttl_s)
            found = self._until[place] = lease.deadlines(self.sent_at_s, self._ttl_s, spread=spread)
        return found

    def count(self, meter: InstanceMeter) -> None:
        """Take down in figures what was renewed."""
        renewed = len(self.left_s)
        if renewed:
            meter.renewals.add("renewed", by=renewed)
            meter.renewal.observe_all([self.heard_at_s - self.sent_at_s] * renewed)
            meter.lease_left.observe_all(self.left_s)


class Leaseholder(Protocol):
    """Who holds a lease: puts it under its next moment, whenever that is known, and is asked when it has come."""

    moment: int | None

    def ask(self, round_: Round) -> Holding | None:
        """Return what to ask for in this request; None if there is nothing to be renewed now."""
        ...

    def hear(self, answer: Renewal | Exception, round_: Round) -> None:
        """Take in the answer to what was asked last."""
        ...


class Renewer:
    """Asks for the renewals of an instance's sessions."""

    def __init__(self, store: Store, rules: Rules, clock: Clock, meter: InstanceMeter) -> None:
        """Begin without a lease; nothing is renewed before :meth:`run`."""
        self._store = store
        self._clock = clock
        self._meter = meter
        self._ttl_s = rules.ttl_s
        self._moment_s = rules.ttl_s / MOMENTS
        self._wheel: dict[int, dict[Leaseholder, None]] = {}
        self._changed = asyncio.Event()

    def put(self, holder: Leaseholder, at_s: float) -> None:
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

    def take_out(self, holder: Leaseholder) -> None:
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
                due = self._take_due()
                while chunk := list(islice(due, LARGEST_REQUEST)):
                    requests.create_task(self._renew(chunk), name="renewals")

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

    def _take_due(self) -> Iterator[Leaseholder]:
        now_s = self._clock.monotonic_s()
        for moment in sorted(moment for moment in self._wheel if (moment + 1) * self._moment_s <= now_s):
            for holder in self._wheel.pop(moment):
                holder.moment = None
                yield holder

    async def _renew(self, due: Sequence[Leaseholder]) -> None:
        round_ = Round(self._clock.monotonic_s(), self._ttl_s, self._store.generation)
        asking: list[Leaseholder] = []
        leases: list[Holding] = []
        for holder in due:
            if (asked := holder.ask(round_)) is not None:
                asking.append(holder)
                leases.append(asked)
        if not asking:
            return
        self._meter.lateness.observe_all(round_.late_s)
        answers = await self._ask(leases, round_.patience_s())
        round_.heard_at_s = self._clock.monotonic_s()
        round_.generation = self._store.generation
        for holder, answer in zip(asking, answers, strict=True):
            holder.hear(answer, round_)
        round_.count(self._meter)

    async def _ask(
        self, leases: Sequence[Holding], patience_s: float | None
    ) -> Sequence[Renewal | Exception]:
        try:
            async with asyncio.timeout(patience_s):
                return await self._store.renew_many(leases)
        except TimeoutError:
            return [StoreUnavailable("no answer in time")] * len(leases)
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                log.exception("renewer.failed", leases=len(leases))
            return [error] * len(leases)
