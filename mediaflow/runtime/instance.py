"""An instance: takes calls and assignments, and runs their sessions within its slots. No HTTP.

Invariants: a slot is reserved before a session is created or accepted, so never more than ``slots`` run.
One session has at most one actor here.
"""

import asyncio
import random
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from mediaflow.api.messages import CallAnswer
from mediaflow.core import names
from mediaflow.core.partitions import partition_of
from mediaflow.core.tenure import Rules
from mediaflow.runtime.actor import Surroundings
from mediaflow.runtime.clock import Clock, SystemClock
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.offers import Offers
from mediaflow.runtime.registration import STORE_TIMEOUT_S, Registration, State
from mediaflow.runtime.roll import Roll
from mediaflow.runtime.session import Handler
from mediaflow.runtime.slots import Slot, Slots
from mediaflow.settings import Settings
from mediaflow.store import (
    Acceptance,
    Assignment,
    Changed,
    Claim,
    Creation,
    Hint,
    NewSession,
    NotDurable,
    Owner,
    Store,
    StoreError,
    StoreUnavailable,
    idempotency_field,
)
from mediaflow.telemetry import tracing

log: Any = structlog.get_logger("mediaflow.instance")


REFUSALS_AT_ONCE = 100
"""Anybody who can publish may offer us sessions: so many refusals are under way at most."""

END_PATIENCE_S = 1.0
"""How long ending a call waits for a coroutine that runs here."""


class NoFreeSlot(Exception):
    """All slots are taken, and calls are not queued (``admission = "reject"``). Nothing was changed: try later."""


class QueueFull(Exception):
    """As many sessions are pending as ``max_pending`` allows. Nothing was changed: try again later."""


class Draining(Exception):
    """The instance takes nothing new, because it is about to end. Nothing was changed: ask another."""


class KeyConflict(Exception):
    """The idempotency key was used for this call with other metadata. Nothing was changed: take a new key."""


_REFUSALS: dict[type[Exception], str] = {
    NoFreeSlot: "no_free_slot",
    QueueFull: "queue_full",
    Draining: "draining",
    KeyConflict: "key_conflict",
    StoreUnavailable: "store_unavailable",
    NotDurable: "store_unavailable",
}
"""Why a call is refused, as labels."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """What a POST asks of an instance.

    Attributes:
        metadata: A JSON object, encoded.
        body_digest: Tells bodies apart that come under the same idempotency key.
        idempotency_key: None if the client sent none.
        slot_only: Do not queue the call: the asker knows other instances.
    """

    call_id: str
    metadata: bytes
    body_digest: str
    idempotency_key: str | None = None
    slot_only: bool = False


class Instance:
    """One instance; ``async with`` it. Leaving the block drains it, unless it was drained or aborted before."""

    def __init__(
        self,
        store: Store,
        handler: Handler,
        settings: Settings,
        *,
        address: str = "",
        clock: Clock | None = None,
        random: random.Random | None = None,
    ) -> None:
        """Prepare an instance; nothing runs yet.

        Args:
            store: Where sessions are owned; it stays the caller's to close.
            handler: The coroutine function that processes a session.
            settings: Slots, lease, drain and the like.
            address: ``host:port`` at which others reach it; empty when embedded.
            clock: Deadlines and ids are read from it.
            random: Spreads renewals and makes ids.
        """
        self._store = store
        self._handler = handler
        self._settings = settings
        self._clock = clock or SystemClock()
        self._random = random or _system_random()
        self.meter = InstanceMeter()
        self._registration = Registration(store, settings, address, self._clock, self._random)
        self._slots = Slots(settings.slots, self._registration.changed)
        self._roll = Roll()
        self._offers = Offers()
        self._refusals: set[asyncio.Task[None]] = set()
        self._queueing = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._leaving = asyncio.Event()
        self._why_leaving = ""
        self._group: asyncio.TaskGroup | None = None
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
        if self.state in ("draining", "stopped"):
            return f"instance {self.instance_id} is {self.state}"
        return (
            f"instance {self.instance_id} {self._registration.problem}" if self._registration.problem else ""
        )

    @property
    def ready(self) -> bool:
        """Registered, in touch with Redis, and not draining."""
        return not self.problem

    @property
    def slots(self) -> int:
        """Sessions that it runs at most."""
        return self._slots.total

    @property
    def used(self) -> int:
        """Slots taken: by sessions that run, and by those that are just being asked for."""
        return self._slots.used

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

    # -- placing calls ------------------------------------------------------------------------

    async def place(self, request: Placement) -> CallAnswer:
        """Make a session for a call, or find the one it has; see ``POST /calls/{callId}``.

        Raises:
            NoFreeSlot: All slots are taken, and the call may not be queued here.
            QueueFull: ``max_pending`` sessions are pending.
            Draining: The instance takes nothing new.
            KeyConflict: The idempotency key was used with another body.
            StoreUnavailable: Redis did not answer; the call may or may not be assigned.
        """
        try:
            return await self._place(request)
        except tuple(_REFUSALS) as error:
            self.meter.refusals.add(_REFUSALS[type(error)])
            raise

    async def _place(self, request: Placement) -> CallAnswer:
        if self.state in ("draining", "stopped"):
            raise Draining(f"instance {self.instance_id} is {self.state} and takes no new calls")
        if not self.incarnation:
            raise StoreUnavailable(self.problem)
        slot = self._slots.reserve()
        if slot is None:
            return await self._place_without_slot(request)
        try:
            sent_at_s = self._clock.monotonic_s()
            new = self._new_session(request, self._registration.owner)
            created = await self._store.create(new, timeout_s=STORE_TIMEOUT_S)
            claim = Claim(request.call_id, created.session_id, created.fence)
            if created.status == "created":
                kept = _fresh(new, created, self._clock.wall_ms())
                slot = None if self._start(claim, kept, sent_at_s, slot) else slot
            elif created.status == "repeated" and self._is_given_to_me(created):
                slot = None if await self._take_up(claim, slot) else slot
            return _answer(request.call_id, created)
        finally:
            if slot is not None:
                slot.free()

    async def end(self, call_id: str, reason: str) -> bool:
        """End a call, wherever it runs; False if it is not known.

        A coroutine of it that runs here is cancelled before this returns, unless it takes long to stop.
        """
        known = await self._store.cancel(call_id, reason, timeout_s=STORE_TIMEOUT_S)
        await self._roll.ask_about(call_id, END_PATIENCE_S)
        return known

    async def _place_without_slot(self, request: Placement) -> CallAnswer:
        may_queue = self._settings.admission == "queue" and not request.slot_only
        # One at a time, so that the bound holds exactly among the calls that this instance queues.
        async with self._queueing:
            pending = await self._store.pending(timeout_s=STORE_TIMEOUT_S) if may_queue else 0
            full = may_queue and pending >= self._settings.max_pending
            new = self._new_session(request, None, may_queue=may_queue and not full)
            created = await self._store.create(new, timeout_s=STORE_TIMEOUT_S)
        if created.status == "absent" and full:
            raise QueueFull(
                f"{pending} sessions are pending, and max_pending is {self._settings.max_pending}"
            )
        if created.status == "absent":
            raise NoFreeSlot(
                f"instance {self.instance_id} has no free slot ({self.used} of {self.slots} taken)"
            )
        if created.status == "repeated" and self._is_given_to_me(created):
            claim = Claim(request.call_id, created.session_id, created.fence)
            await self._refuse(claim, "refused: no free slot")
        if created.status == "created":
            self._tell_pending(Claim(request.call_id, created.session_id, created.fence), "no free slot")
        return _answer(request.call_id, created)

    def _new_session(self, request: Placement, owner: Owner | None, *, may_queue: bool = True) -> NewSession:
        partition = partition_of(request.call_id, self._store.partitions)
        return NewSession(
            call_id=request.call_id,
            session_id=names.session_id(self._clock.wall_ms(), partition, self._random.getrandbits(40)),
            idempotency_key=request.idempotency_key or f"{self._random.getrandbits(128):032x}",
            body_digest=request.body_digest,
            metadata=request.metadata,
            owner=owner,
            may_queue=may_queue,
            trace=tracing.carried(),
        )

    def _is_given_to_me(self, created: Creation) -> bool:
        """Whether the session was given to this process, which does not run it (yet)."""
        return (
            created.state == "active"
            and created.instance_id == self.instance_id
            and created.incarnation == self.incarnation
            and created.session_id not in self._roll
        )

    async def _take_up(self, claim: Claim, slot: Slot) -> bool:
        """Accept a session with the slot reserved for it; False if it cannot be had, and the slot is not taken."""
        if not self._offers.may_accept(claim):
            return False
        with self._offers.accepting(claim):
            sent_at_s = self._clock.monotonic_s()
            accepted = await self._store.accept(self._registration.owner, claim, timeout_s=STORE_TIMEOUT_S)
            return accepted.status == "accepted" and self._start(claim, accepted, sent_at_s, slot)

    async def _refuse(self, claim: Claim, reason: str) -> None:
        if not self._offers.refuse(claim):
            return
        written = await self._store.refuse(self._registration.owner, claim, reason, timeout_s=STORE_TIMEOUT_S)
        if written.status == "written":
            self._tell_pending(claim, reason)

    def _tell_pending(self, claim: Claim, reason: str) -> None:
        log.info(
            "session.pending",
            call=claim.call_id,
            session=claim.session_id,
            instance=self.instance_id,
            fence=claim.fence,
            reason=reason,
        )

    def _start(self, claim: Claim, kept: Acceptance, sent_at_s: float, slot: Slot) -> bool:
        if self._group is None or self.state == "stopped":
            return False
        return self._roll.start(self._group, self._surroundings(), claim, kept, sent_at_s, slot)

    def _surroundings(self) -> Surroundings:
        settings = self._settings
        rules = Rules(settings.lease_ttl, settings.retention, settings.on_network_partition == "stop")
        return Surroundings(
            self._store,
            self._registration.owner,
            self._handler,
            rules,
            self._clock,
            self._random,
            self.meter,
        )

    # -- background -------------------------------------------------------------------------

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(
                self._registration.keep(lambda: (self.slots, self.used), self._on_superseded),
                name="heartbeat",
            )
            group.create_task(self._listen(group), name="inbox")

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        async for message in self._store.inbox(self.instance_id):
            match message:
                case Assignment(claim, incarnation) if incarnation == self.incarnation:
                    self._on_assignment(group, claim)
                case Hint(session_id) if session_id in self._roll:
                    self._roll.ask_now(session_id)
                case Changed():
                    self._roll.ask_now()
                case _:
                    pass

    def _on_assignment(self, group: asyncio.TaskGroup, claim: Claim) -> None:
        if claim.session_id in self._roll:
            # It runs here still, and was given to us anew: the renewal takes the new fence.
            self._roll.ask_now(claim.session_id)
            return
        slot = self._slots.reserve() if self.state == "ready" else None
        if slot is None and len(self._refusals) >= REFUSALS_AT_ONCE:
            return  # the acceptance lease says the same, a little later
        answering = group.create_task(
            self._answer_assignment(claim, slot), name=f"assignment {claim.session_id}"
        )
        if slot is None:
            self._refusals.add(answering)
            answering.add_done_callback(self._refusals.discard)

    async def _answer_assignment(self, claim: Claim, slot: Slot | None) -> None:
        try:
            if slot is None:
                reason = f"refused: {self.state if self.state != 'ready' else 'no free slot'}"
                self.meter.assignments.add("refused")
                await self._refuse(claim, reason)
            elif await self._take_up(claim, slot):
                slot = None
                self.meter.assignments.add("accepted")
            else:
                self.meter.assignments.add("void")
        except StoreError as error:
            self.meter.assignments.add("unanswered")
            # The acceptance lease lapses, and the session is given again.
            log.warning(
                "session.not_accepted",
                call=claim.call_id,
                session=claim.session_id,
                instance=self.instance_id,
                fence=claim.fence,
                reason=str(error),
            )
        finally:
            if slot is not None:
                slot.free()

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
        await self._registration.announce_drain(lambda: (self.slots, self.used))
        await self._roll.drain(self._settings.drain_timeout if self._settings.drain == "wait" else 0)
        await self._registration.leave("drained")
        self._registration.state = "stopped"
        self._registration.changed()
        self._stopped.set()


def _fresh(new: NewSession, created: Creation, now_ms: int) -> Acceptance:
    """Return what a handler needs of a session that this process has just made."""
    return Acceptance(
        status="accepted",
        fence=created.fence,
        metadata=new.metadata,
        created_at_ms=now_ms,
        idempotency_key=idempotency_field(new.idempotency_key),
        body_digest=new.body_digest,
        trace=new.trace,
    )


def _answer(call_id: str, created: Creation) -> CallAnswer:
    if created.status == "conflict":
        raise KeyConflict("this Idempotency-Key was used for this call with another body: use a new key")
    return CallAnswer(
        call_id=call_id,
        session_id=created.session_id,
        state=created.state,
        owner=created.instance_id or None,
        fence=created.fence,
        created=created.first_created,
    )


def _system_random() -> random.Random:
    return random.SystemRandom()
