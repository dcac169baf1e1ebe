"""The balancer's picture of the instances: their last heartbeats, minus what is on its way to them.

A placement counts from before it is sent until a heartbeat that was sent after its answer is seen: only that
one shows the slot as used. Without it, a burst would pile onto the instance that looked empty last.

Not guaranteed: that a slot is free. The instance alone decides; the picture only says whom to ask first.
"""

import asyncio
import contextlib
import random
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager

from mediaflow.core.urn import Urn
from mediaflow.runtime.clock import Clock
from mediaflow.store import InstanceRecord, Store, StoreError

POLL_INTERVAL_S = 1.0
STALE_AFTER_S = 3.0
SETTLE_TIMEOUT_S = 5.0
HINT_PAUSE_S = 0.02
PAUSE_PER_READING = 4
"""Times the last reading's length, what passes before the next: a large fleet is not read all the time on hints."""


class Ticket:
    """One placement under way; ``answered_at_s`` is None until the instance has answered."""

    __slots__ = ("answered_at_s", "took_slot")

    def __init__(self) -> None:
        self.answered_at_s: float | None = None
        # Until the answer says otherwise: an instance that refused had less room than we thought, too.
        self.took_slot = True


class Roster:
    """Whom to ask for a slot. :meth:`run` keeps it up to date."""

    def __init__(self, store: Store, clock: Clock, rng: random.Random) -> None:
        self._store = store
        self._clock = clock
        self._random = rng
        self._records: dict[str, InstanceRecord] = {}
        self._live: dict[str, InstanceRecord] = {}
        self._free_slots = Urn()
        self._anyone = Urn()
        self._tickets: dict[str, set[Ticket]] = {}
        self._suspects: dict[str, float] = {}
        self._hinted = asyncio.Event()
        self._renewed = asyncio.Event()
        self._refreshed_at_s: float | None = None
        self._failure = "Redis has not answered yet"

    @property
    def problem(self) -> str:
        """Say why the picture is not to be trusted; empty if it is."""
        if self._failure:
            return self._failure
        age_s = self._clock.monotonic_s() - (self._refreshed_at_s or 0.0)
        return f"the instances were last read {age_s:.0f} s ago" if age_s > STALE_AFTER_S else ""

    @property
    def known(self) -> bool:
        """Tell whether the instances were ever read."""
        return self._refreshed_at_s is not None

    def live(self) -> Collection[InstanceRecord]:
        """Return the instances that can be asked: alive, with an address, not draining, no suspects."""
        return self._live.values()

    def free(self) -> int:
        """Return the free slots of all instances together, minus what is on its way."""
        return self._free_slots.total

    def renewals_per_s(self) -> float:
        """Return how many leases all instances renew a second, as of their last heartbeats.

        Those that drain, and those without an address, renew as well.
        """
        return sum(record.renewals_per_s for record in self._records.values() if record.alive)

    def choose(self, excluded: Collection[str]) -> InstanceRecord | None:
        """Choose an instance that seems to have a free slot, each slot with the same chance."""
        return self._drawn(self._free_slots, excluded)

    def any_live(self, excluded: Collection[str]) -> InstanceRecord | None:
        """Choose any live instance, free slots or not."""
        return self._drawn(self._anyone, excluded)

    @contextmanager
    def counted(self, instance_id: str) -> Generator[Ticket]:
        """Count a placement as on its way to an instance, however it ends."""
        ticket = Ticket()
        self._tickets.setdefault(instance_id, set()).add(ticket)
        self._free_slots.add(instance_id, -1)
        try:
            yield ticket
        finally:
            if ticket.took_slot:
                ticket.answered_at_s = self._clock.monotonic_s()
            else:
                self._drop(instance_id, [ticket])

    def suspect(self, instance_id: str) -> None:
        """Leave an instance out until it beats again: it could not be connected to."""
        self._suspects[instance_id] = self._clock.monotonic_s()
        self._live.pop(instance_id, None)
        self._free_slots.remove(instance_id)
        self._anyone.remove(instance_id)

    async def renewed(self, within_s: float) -> None:
        """Have the instances read again, and wait for that, but not for long."""
        renewed = self._renewed
        self._hinted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await renewed.wait()

    async def refresh(self) -> None:
        """Read the instances now.

        Raises:
            StoreError: They could not be read; the picture stays as it was.
        """
        asked_at_s = self._clock.monotonic_s()
        records = await self._store.instances()
        self._records = {record.instance_id: record for record in records}
        self._refreshed_at_s = asked_at_s
        self._settle(asked_at_s)
        self._draw_up()
        self._failure = ""
        self._renewed.set()
        self._renewed = asyncio.Event()

    async def run(self) -> None:
        """Keep the picture up to date: each second, and on hints; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._poll())

    async def _listen(self) -> None:
        async for change in self._store.changes():
            if change.what in ("instances", "resync"):
                self._hinted.set()

    async def _poll(self) -> None:
        while True:
            self._hinted.clear()
            pause_s = HINT_PAUSE_S  # a burst of hints is one reading, not one each
            asked_at_s = self._clock.monotonic_s()
            try:
                await self.refresh()
            except StoreError as error:
                self._failure = str(error)
            else:
                took_s = self._clock.monotonic_s() - asked_at_s
                pause_s = max(pause_s, min(PAUSE_PER_READING * took_s, POLL_INTERVAL_S))
            await asyncio.sleep(pause_s)
            try:
                async with asyncio.timeout(POLL_INTERVAL_S - pause_s):
                    await self._hinted.wait()
            except TimeoutError:
                continue

    def _drawn(self, urn: Urn, excluded: Collection[str]) -> InstanceRecord | None:
        chosen = urn.draw(self._random.random(), excluded)
        return None if chosen is None else self._live[chosen]

    def _draw_up(self) -> None:
        """Draw up who is live and has room: once a reading, since calls are placed far more often."""
        self._live = {
            name: record
            for name, record in self._records.items()
            if record.alive and record.address and record.state == "ready" and name not in self._suspects
        }
        self._free_slots = Urn(
            (name, record.free - len(self._tickets.get(name, ()))) for name, record in self._live.items()
        )
        self._anyone = Urn((name, 1) for name in self._live)

    def _settle(self, asked_at_s: float) -> None:
        beats_at_s = {
            # The age is as of the reading, which came after asked_at_s: the true moment is not earlier.
            record.instance_id: asked_at_s - record.heartbeat_age_ms / 1000
            for record in self._records.values()
        }
        for instance_id, tickets in list(self._tickets.items()):
            shown_s = max(beats_at_s.get(instance_id, asked_at_s), asked_at_s - SETTLE_TIMEOUT_S)
            answered = [ticket for ticket in tickets if ticket.answered_at_s is not None]
            self._drop(
                instance_id, [ticket for ticket in answered if (ticket.answered_at_s or 0.0) < shown_s]
            )
        self._suspects = {
            instance_id: failed_at_s
            for instance_id, failed_at_s in self._suspects.items()
            if beats_at_s.get(instance_id, asked_at_s) <= failed_at_s
        }

    def _drop(self, instance_id: str, gone: Sequence[Ticket]) -> None:
        tickets = self._tickets.get(instance_id, set())
        tickets.difference_update(gone)
        self._free_slots.add(instance_id, len(gone))
        if not tickets:
            self._tickets.pop(instance_id, None)
