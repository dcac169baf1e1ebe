"""An instance: takes calls and assignments, and runs their sessions within its slots. No HTTP.

It is put together here, lives and drains; its parts do what it does meanwhile.

Invariants: a slot is reserved before a session is created or accepted, so never more than ``slots`` run.
One session has at most one actor here.
"""

import asyncio
import random
import secrets
from types import TracebackType
from typing import Any, Self

import structlog

from mediaflow.api.messages import CallAnswer
from mediaflow.core.tenure import Rules
from mediaflow.runtime.account import Accounts
from mediaflow.runtime.capacity import Capacity
from mediaflow.runtime.clock import Clock, SystemClock
from mediaflow.runtime.door import Door
from mediaflow.runtime.hooks import NO_HOOKS, Hooks
from mediaflow.runtime.maker import Maker
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.pace import Pace
from mediaflow.runtime.placer import Placer
from mediaflow.runtime.placing import Placement
from mediaflow.runtime.premises import Premises
from mediaflow.runtime.reception import Reception
from mediaflow.runtime.registration import Registration, Room, State
from mediaflow.runtime.renewer import Renewer
from mediaflow.runtime.roll import Roll
from mediaflow.runtime.session import Handler
from mediaflow.runtime.surroundings import Surroundings
from mediaflow.settings import Settings
from mediaflow.store import Assignments, Changed, Hint, Store

log: Any = structlog.get_logger("mediaflow.instance")


class Instance:
    """One instance; ``async with`` it. Leaving the block drains it, unless it was drained or aborted before."""

    def __init__(
        self,
        store: Store,
        handler: Handler,
        settings: Settings,
        *,
        hooks: Hooks = NO_HOOKS,
        address: str = "",
        clock: Clock | None = None,
        random: random.Random | None = None,
    ) -> None:
        """Prepare an instance; nothing runs yet.

        Args:
            store: Where sessions are owned; it stays the caller's to close.
            handler: The coroutine function that processes a session.
            settings: Slots, lease, drain and the like.
            hooks: What else the user has a say in.
            address: ``host:port`` at which others reach it; empty when embedded.
            clock: Deadlines and ids are read from it.
            random: Spreads renewals and makes ids.
        """
        clock, random = clock or SystemClock(), random or _seeded_by_system()
        self.meter = InstanceMeter()
        self._clock, self._pace = clock, Pace()
        self._store = store
        self._settings = settings
        self._registration = Registration(store, settings, address, clock, random)
        self._capacity = Capacity(settings, hooks.load, self._registration.changed)
        rules = Rules(settings.lease_ttl, settings.retention, settings.on_network_partition == "stop")
        self._renewer = Renewer(store, rules, clock, self.meter)
        around = Surroundings(
            store, self._registration.owner, handler, rules, clock, self.meter, self._renewer
        )
        accounts = Accounts(store, settings)
        self._roll = Roll(self._registration, around, accounts)
        premises = Premises(
            store, settings, clock, random, self.meter, self._registration, self._capacity, self._roll
        )
        door = Door(premises, hooks.on_call)
        self._reception = Reception(premises, door)
        self._placer = Placer(premises, door, accounts, Maker(premises, self._reception))
        self._stopped = asyncio.Event()
        self._leaving = asyncio.Event()
        self._why_leaving = ""
        self._main: asyncio.Task[None] | None = None
        self._drain_task: asyncio.Task[None] | None = None

    # -- how it is --------------------------------------------------------------------------

    @property
    def instance_id(self) -> str:
        """Its name in the registry."""
        return self._registration.instance_id

    @property
    def address(self) -> str:
        """``host:port`` at which others reach it; empty when embedded."""
        return self._registration.address

    @property
    def rank(self) -> str:
        """By which its sessions are ordered among siblings."""
        return self._registration.rank

    @property
    def incarnation(self) -> int:
        """Which process of this id it is; 0 until Redis has told."""
        return self._registration.incarnation

    @property
    def state(self) -> State:
        """``starting``, ``ready``, ``draining`` or ``stopped``."""
        return self._registration.state

    @property
    def problem(self) -> str:
        """Why it is not ready, in a line; empty if it is."""
        return self._registration.why_not_ready

    @property
    def ready(self) -> bool:
        """Registered, in touch with Redis, and not draining."""
        return not self.problem

    @property
    def slots(self) -> int:
        """Sessions that it runs at most."""
        return self._capacity.slots.total

    @property
    def used(self) -> int:
        """Slots taken: by sessions that run, and by those that are just being asked for."""
        return self._capacity.slots.used

    @property
    def load(self) -> float | None:
        """How busy it is, from 0 to 1, as its user measures it; None if that is not known."""
        return self._capacity.watch.gate.load

    @property
    def running(self) -> int:
        """Sessions that run here."""
        return len(self._roll.actors)

    def sessions(self) -> dict[str, int]:
        """Count the slots taken by what they are taken for; all together are :attr:`used`.

        ``starting``: a session is being asked for; ``running``; ``stopped``: its coroutine is, until Redis says whose
        it is; ``ending``: it is being completed, given back or handed off.
        """
        states = self._roll.states()
        known = {state: states[state] for state in ("running", "stopped", "ending")}
        return {"starting": self.used - self.running, **known}

    # -- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start the background work; the instance registers as soon as Redis answers."""
        self._main = asyncio.create_task(self._run(), name=f"instance {self.instance_id}")
        self._main.add_done_callback(self._on_main_ended)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain, then end the background work."""
        try:
            if self.state != "stopped":
                await self.drain()
        finally:
            await self.abort()

    async def drain(self) -> None:
        """Take nothing new, give all sessions away as ``settings.drain`` says, and leave the registry.

        Returns when no session is left. May be called more than once, also at the same time.
        """
        await asyncio.shield(self.begin_drain("drained"))

    def begin_drain(self, why: str) -> asyncio.Task[None]:
        """Begin to drain and do not wait for it; once it has begun, this changes nothing.

        Args:
            why: For whoever waits in :meth:`wait_leaving`, in a line.
        """
        if self._drain_task is None:
            self._registration.state = "draining"
            self._drain_task = asyncio.create_task(self._drain(), name=f"drain {self.instance_id}")
            self._leave(why)
        return self._drain_task

    async def abort(self) -> None:
        """End at once and say nothing to anyone, as a crash would; sessions are left to their leases."""
        self._registration.state = "stopped"
        for task in (self._drain_task, self._main):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])
        self._leave("aborted")
        self._stopped.set()

    async def wait_ready(self) -> None:
        """Return when Redis knows the instance, for the first time."""
        await self._registration.registered.wait()

    async def wait_leaving(self) -> str:
        """Return why the instance leaves, once it has begun to drain or has ended; whoever waits drains it.

        Raises:
            ExceptionGroup: It ended by a fault of its own.
        """
        await self._leaving.wait()
        self._raise_fault()
        return self._why_leaving

    async def wait_stopped(self) -> None:
        """Return when the instance has ended; by itself it does so when a newer process has taken its id.

        Raises:
            ExceptionGroup: It ended by a fault of its own.
        """
        await self._stopped.wait()
        self._raise_fault()

    def _raise_fault(self) -> None:
        if self._main is not None and self._main.done() and not self._main.cancelled():
            self._main.result()

    # -- calls ------------------------------------------------------------------------------

    async def place(self, request: Placement) -> CallAnswer:
        """Make a session for a call, or find the one it has; see ``POST /calls/{callId}``.

        Raises:
            NoFreeSlot: All slots are taken, and the call may not be queued here.
            QueueFull: ``max_pending`` sessions are pending.
            Draining: The instance takes nothing new.
            KeyConflict: The idempotency key was used with another body.
            CallRefused: The hook does not want the call.
            StreamRefused, StreamThrottled: The account has as many streams as it may have, or asks too often.
            StoreUnavailable: Redis did not answer; the call may or may not be assigned.
        """
        return await self._placer.place(request)

    async def end(self, call_id: str, reason: str) -> bool:
        """End a call, wherever it runs; False if it is not known.

        A coroutine of it that runs here is cancelled before this returns, unless it takes long to stop.
        """
        return await self._roll.end(call_id, reason)

    # -- background -------------------------------------------------------------------------

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._roll.open(group)
            heartbeat = self._registration.keep(self._room, self._on_superseded)
            group.create_task(heartbeat, name="heartbeat")
            group.create_task(self._renewer.run(), name="renewals")
            group.create_task(self._capacity.watch.run(), name="load")
            group.create_task(self._listen(group), name="inbox")

    def _room(self) -> Room:
        pace = self._pace.read(self._clock.monotonic_s(), self.meter.renewed)
        return self._capacity.room()._replace(renewals_per_s=round(pace, 2))

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        async for message in self._store.inbox(self.instance_id):
            match message:
                case Assignments(claims, incarnation) if incarnation == self.incarnation:
                    self._reception.on_assignments(group, claims)
                case Hint(session_id) if session_id in self._roll:
                    self._roll.ask_now(session_id)
                case Changed():
                    self._roll.ask_now()
                case _:
                    pass

    def _on_main_ended(self, main: asyncio.Task[None]) -> None:
        """Stop for good after a fault: nobody would renew or answer any more, and others shall see that."""
        if not main.cancelled() and (error := main.exception()) is not None:
            log.critical("instance.failed", instance=self.instance_id, exc_info=error)
            self._registration.state = "stopped"
            self._leave("failed")
            self._stopped.set()

    def _on_superseded(self) -> None:
        if self._drain_task is None:
            log.error("instance.superseded", instance=self.instance_id, reason="a newer process uses this id")
            self.begin_drain("a newer process runs under its id")

    def _leave(self, why: str) -> None:
        self._why_leaving = self._why_leaving or why
        self._leaving.set()

    async def _drain(self) -> None:
        await self._registration.announce_drain(self._room)
        await self._roll.drain(self._settings.drain_timeout if self._settings.drain == "wait" else 0)
        await self._registration.leave("drained")
        self._registration.state = "stopped"
        self._registration.changed()
        self._stopped.set()


def _seeded_by_system() -> random.Random:
    # Ids have to be unique, and are no secrets; the system's own source would be asked twice for each call.
    return random.Random(secrets.randbits(128))  # noqa: S311
