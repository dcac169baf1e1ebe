"""The watchdog: keeps lease time going, makes orphaned sessions pending, gives pending ones an instance.

One loop does all that writes, turn by turn: look at the registry, sweep the dead, tick, sweep the
expired, assign. Hints and probes only feed :mod:`mediaflow.core.vigil` and wake the loop. Any
number of watchdogs may run: each step is atomic in Redis, so two never assign a session twice.

Not guaranteed: that an assignment is taken up. One that is refused or not accepted in time makes
its session pending again, and the next turn tries elsewhere.
"""

import asyncio
import random as randomness
import secrets
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from mediaflow.core.vigil import (
    Answered,
    Done,
    Duty,
    Hinted,
    Lost,
    Polled,
    Seen,
    StrikeOff,
    SweepDead,
    Ticked,
    Vigil,
    VigilEvent,
    step,
)
from mediaflow.runtime.clock import Clock, SystemClock
from mediaflow.settings import Settings
from mediaflow.store import (
    InstanceRecord,
    NamespaceMismatch,
    PartitionView,
    SessionRef,
    Store,
    StoreError,
    StoreUnavailable,
)
from mediaflow.watchdog.assigner import Assigner
from mediaflow.watchdog.attendance import Attendance, Post
from mediaflow.watchdog.meter import WatchdogMeter
from mediaflow.watchdog.probe import Probe, TcpProbe
from mediaflow.watchdog.together import together

TICK_LIMIT = 200
"""Sessions that a tick shows of each index of a partition; what is over waits for the next one."""

RECONNECT_PAUSE_S = 0.2

_log = structlog.get_logger(__name__)


class Watchdog:
    """Watches over one namespace.

    Args:
        store: The store of the namespace; the caller closes it.
        settings: ``lease_ttl`` and ``accept_ttl`` are used.
        clock: For deadlines.
        random: For drawing instances.
        probe: How instances are reached for crash detection; over TCP unless given.

    Attributes:
        orphaned: Sessions that it made pending so far, because their lease was over or their owner dead.
        pending: Sessions that were pending at the last tick.
        leased: Sessions that had a lease then, or an assignment to be accepted.
        longest_wait_s: How long the longest of those had waited that could be assigned.
        meter: What it measures of itself.
        problem: Why it does not watch, in one line; empty if it does. Who runs it tells it to people.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        clock: Clock | None = None,
        random: randomness.Random | None = None,
        probe: Probe | None = None,
    ) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._probe = probe or TcpProbe()
        random = random or randomness.Random(secrets.randbits(64))  # noqa: S311 - nothing secret
        self.meter = WatchdogMeter()
        self._assigner = Assigner(
            store, settings.accept_ttl, clock=self._clock, random=random, outcomes=self.meter.assigned
        )
        self._random = random
        self._assigning = asyncio.Lock()
        self._vigil = Vigil(watch_s=settings.renew_interval_s)
        self._instances: list[InstanceRecord] = []
        self._woken = asyncio.Event()
        self.problem = "Redis has not been reached yet"
        self.orphaned = 0
        self.pending = 0
        self.leased = 0
        self.longest_wait_s = 0.0

    @property
    def ready(self) -> bool:
        """Whether it watches; if not, ``problem`` says why."""
        return not self.problem

    @property
    def assigned(self) -> int:
        """Sessions that it gave to instances so far."""
        return self.meter.assigned.values["assigned",]

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            NamespaceMismatch: The namespace has another number of partitions; trying again would not help.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(), name="watchdog hints")
                tasks.create_task(
                    self._watch(Attendance(self._probe, tasks, self._tell)), name="watchdog turns"
                )
        except BaseExceptionGroup as group:
            # All tasks end with the first that fails: there is one cause, and callers look for its type.
            raise group.exceptions[0] from group

    async def _listen(self) -> None:
        async for change in self._store.changes():
            self._tell(Hinted(registry=change.what != "pending", draining=change.draining))

    async def _watch(self, attendance: Attendance) -> None:
        while True:
            await self._rest()
            began_s = self._clock.monotonic_s()
            try:
                await self._turn(attendance)
            except NamespaceMismatch:
                raise
            except StoreUnavailable as error:
                self.problem = f"Redis cannot be reached: {error}"
                self.meter.failed_turns.add()
                self._tell(Lost())
                await asyncio.sleep(RECONNECT_PAUSE_S)
            except StoreError as error:
                # One damaged record must not stop the watch over all the others.
                self.problem = f"Redis refused what it was asked: {error}"
                self.meter.failed_turns.add()
                await asyncio.sleep(RECONNECT_PAUSE_S)
            else:
                self.problem = ""
                self.meter.turn.observe(self._clock.monotonic_s() - began_s)

    async def _turn(self, attendance: Attendance) -> None:
        if self._vigil.generation is None:
            await self._store.check()
        await self._poll_if_due(attendance)
        damage: StoreError | None = None
        try:
            await together([partial(self._discharge, duty) for duty in self._vigil.duties])
        except StoreUnavailable:
            raise
        except StoreError as error:
            damage = error  # what can be done for all the others is done first
        views = await self._tick()
        expired = {view.partition: view.expired for view in views if view.expired}
        if expired and self._vigil.may_sweep(self._clock.monotonic_s()):
            await self._sweep(expired)
            # Owners fell silent: what they lost goes to those that were heard of since.
            self._tell(Hinted(registry=True))
            await self._poll_if_due(attendance)
            views = await self._tick()
        await self._assign(views)
        if damage is not None:
            raise damage

    async def _assign(self, views: Sequence[PartitionView]) -> None:
        may_be_given = [one for one in self._instances if self._vigil.may_place(one.instance_id)]
        await self._assigner.assign(views, may_be_given, self._vigil.beats_at_s)

    async def _assign_in(self, partitions: Sequence[int]) -> None:
        """Assign what just became pending: it need not wait for all the rest to be swept."""
        # One at a time: each has to know what the one before has given away.
        async with self._assigning:
            await self._assign(await self._store.tick(limit=TICK_LIMIT, partitions=partitions))

    async def _poll_if_due(self, attendance: Attendance) -> None:
        asked_at_s = self._clock.monotonic_s()
        if asked_at_s < self._vigil.poll_at_s:
            return
        self._instances = await self._store.instances()
        self._tell(Answered(self._store.generation))
        self._tell(
            Polled(
                [
                    Seen(
                        one.instance_id, one.incarnation, one.alive, asked_at_s - one.heartbeat_age_ms / 1000
                    )
                    for one in self._instances
                ],
                took_s=self._clock.monotonic_s() - asked_at_s,
            )
        )
        attendance.keep(
            Post(one.instance_id, one.incarnation, one.address)
            for one in self._instances
            if one.alive and one.address and not self._vigil.is_dead(one.instance_id)
        )

    async def _discharge(self, duty: Duty) -> None:
        match duty:
            case SweepDead(instance_id, before_incarnation, reason):
                orphaned = await self._store.sweep_dead(
                    instance_id,
                    before_incarnation,
                    reason,
                    # Each watchdog that found the same death begins elsewhere: they share the work.
                    starting_at=self._random.randrange(self._store.partitions),
                    on_pending=self._assign_in,
                )
                self.orphaned += orphaned
                if orphaned:  # else a process that was drained would be told of as dead
                    _log.warning("swept", instance=instance_id, reason=reason, sessions=orphaned)
            case StrikeOff(instance_id, incarnation, reason):
                if await self._store.leave(instance_id, incarnation, reason):
                    self.meter.struck_off.add(reason.replace(" ", "_"))
                    _log.warning("struck off", instance=instance_id, reason=reason)
        self._tell(Done(duty))

    async def _tick(self) -> list[PartitionView]:
        views = await self._store.tick(limit=TICK_LIMIT)
        self._tell(Answered(self._store.generation))
        self.pending = sum(view.pending for view in views)
        self.leased = sum(view.leased for view in views)
        waits_ms = [one.waiting_ms for view in views for one in view.waiting[:1]]
        self.longest_wait_s = max(waits_ms, default=0) / 1000
        self._tell(
            Ticked(
                next_expiry_in_s=_soonest_s([view.next_expiry_in_ms for view in views]),
                next_waiting_in_s=_soonest_s([view.next_waiting_in_ms for view in views]),
                unfinished=any(max(len(view.expired), len(view.waiting)) >= TICK_LIMIT for view in views),
            )
        )
        return views

    async def _sweep(self, expired: Mapping[int, Sequence[SessionRef]]) -> None:
        orphaned = 0

        async def sweep(partition: int, refs: Sequence[SessionRef]) -> None:
            nonlocal orphaned
            swept = await self._store.sweep(partition, refs)
            orphaned += swept  # not in the line above: it would forget what the others added while it waited

        try:
            await together([partial(sweep, partition, refs) for partition, refs in expired.items()])
        finally:
            self.orphaned += orphaned
            if orphaned:
                _log.warning("leases expired", sessions=orphaned)

    async def _rest(self) -> None:
        """Wait until something is due; any event may bring it forward."""
        while (left_s := self._vigil.wake_at_s() - self._clock.monotonic_s()) > 0:
            self._woken.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._woken.wait()
            except TimeoutError:
                return

    def _tell(self, event: VigilEvent) -> None:
        self._vigil = step(self._vigil, event, self._clock.monotonic_s())
        self._woken.set()


def _soonest_s(waits_ms: list[int | None]) -> float | None:
    known = [wait_ms for wait_ms in waits_ms if wait_ms is not None]
    return min(known) / 1000 if known else None
