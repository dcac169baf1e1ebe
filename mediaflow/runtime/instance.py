"""An instance: takes calls and assignments, and runs their sessions within its slots. No HTTP.

Invariants: a slot is reserved before a session is created or accepted, so never more than ``slots`` run.
One session has at most one actor here.
"""

import asyncio
import random
from functools import partial
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from mediaflow.api.messages import CallAnswer
from mediaflow.core import names
from mediaflow.core.partitions import partition_of
from mediaflow.core.tenure import Rules, backoff_s
from mediaflow.limiter import StreamRefused, StreamThrottled
from mediaflow.runtime.account import Accounts, seat_of
from mediaflow.runtime.actor import Surroundings
from mediaflow.runtime.clock import Clock, SystemClock
from mediaflow.runtime.hooks import NO_HOOKS, Hooks
from mediaflow.runtime.load import Watch
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.offers import Offers
from mediaflow.runtime.oncall import CallRefused, IncomingCall, ask
from mediaflow.runtime.placing import (
    Draining,
    KeyConflict,
    NoFreeSlot,
    Placement,
    QueueFull,
    answer,
    digest,
    fresh,
)
from mediaflow.runtime.registration import STORE_TIMEOUT_S, Registration, Room, State
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
    SessionRef,
    Store,
    StoreError,
    StoreUnavailable,
)
from mediaflow.telemetry import tracing

log: Any = structlog.get_logger("mediaflow.instance")


REFUSALS_AT_ONCE = 100
"""Anybody who can publish may offer us sessions: so many refusals are under way at most."""

LOOK_TIMEOUT_S = 0.7
"""For what is asked of Redis before a call is made: with the hook in between, all of it is answered in good time."""

END_PATIENCE_S = 1.0
"""How long ending a call waits for a coroutine that runs here."""


REFUSALS: dict[type[Exception], str] = {
    NoFreeSlot: "no_free_slot",
    QueueFull: "queue_full",
    Draining: "draining",
    KeyConflict: "key_conflict",
    CallRefused: "unwanted",
    StreamRefused: "account_full",
    StreamThrottled: "account_throttled",
    StoreUnavailable: "store_unavailable",
    NotDurable: "store_unavailable",
}
"""Why a call is refused, as labels."""


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
        self._store = store
        self._handler = handler
        self._settings = settings
        self._clock = clock or SystemClock()
        self._random = random or _system_random()
        self.meter = InstanceMeter()
        self._registration = Registration(store, settings, address, self._clock, self._random)
        self._hooks = hooks
        self._accounts = Accounts(store, settings)
        self._slots = Slots(settings.slots, self._registration.changed)
        self._watch = Watch(hooks.load, settings.load_threshold, self._registration.changed)
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
    def load(self) -> float | None:
        """How busy it is, from 0 to 1, as its user measures it; None if that is not known."""
        return self._watch.gate.load

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
            CallRefused: The hook does not want the call.
            StreamRefused, StreamThrottled: The account has as many streams as it may have, or asks too often.
            StoreUnavailable: Redis did not answer; the call may or may not be assigned.
        """
        try:
            return await self._place_or_refuse(request)
        except tuple(REFUSALS) as error:
            self.meter.refusals.add(REFUSALS[type(error)])
            raise

    async def _place_or_refuse(self, request: Placement) -> CallAnswer:
        if self.state in ("draining", "stopped"):
            raise Draining(f"instance {self.instance_id} is {self.state} and takes no new calls")
        if not self.incarnation:
            raise StoreUnavailable(self.problem)
        if self._hooks.on_call is None and request.account is None:
            return await self._place(request)
        if request.idempotency_key is None:
            request = msgspec.structs.replace(request, idempotency_key=self._made_up_key())
        # A call that is there was accepted, here or elsewhere, and is not asked about again.
        return await self._find(request) or await self._place_if_wanted(request)

    async def _place_if_wanted(self, request: Placement) -> CallAnswer:
        await self._ask_hook(request.call_id, request.metadata, "created", self._free(), request.account)
        if request.account is None:
            return await self._place(request)
        if self._free() <= 0 and not self._may_queue(request):
            raise NoFreeSlot(self._why_no_slot())
        return await self._place_counted(request, request.account)

    async def _place_counted(self, request: Placement, account: str) -> CallAnswer:
        """Take a place for the call among its account's streams, and make its session."""
        key = request.idempotency_key or ""
        seat = await self._accounts.admit(account, request.call_id, request.metadata, key)
        try:
            # If Redis does not answer, the call may have been made: a repeated request finds the place again.
            made = await self._place(msgspec.structs.replace(request, seat=seat))
        except (NoFreeSlot, QueueFull):
            await self._accounts.give_up(seat)
            raise
        if not made.created:
            await self._accounts.give_up(seat)
        elif made.state == "pending" and self._group is not None:
            self._accounts.keep_waiting(
                self._group, seat, request.call_id, made.session_id, partial(self.end, request.call_id)
            )
        return made

    async def _find(self, request: Placement) -> CallAnswer | None:
        """Return the answer for a call that has a session, None if it has none."""
        sought = self._new_session(request, None, may_queue=False)
        found = await self._store.create(sought, timeout_s=LOOK_TIMEOUT_S)
        if found.status == "absent":
            return None
        if found.status == "repeated" and self._is_given_to_me(found):
            await self._answer_offer(request, found, self._reserve())
        return answer(request.call_id, found)

    async def _place(self, request: Placement) -> CallAnswer:
        slot = self._reserve()
        if slot is None:
            return await self._place_without_slot(request)
        try:
            sent_at_s = self._clock.monotonic_s()
            new = self._new_session(request, self._registration.owner)
            created = await self._store.create(new, timeout_s=STORE_TIMEOUT_S)
            claim = Claim(request.call_id, created.session_id, created.fence)
            if created.status == "created":
                kept = fresh(new, created, self._clock.wall_ms())
                slot = None if self._start(claim, kept, sent_at_s, slot, is_fresh=True) else slot
            elif created.status == "repeated" and self._is_given_to_me(created):
                offered, slot = slot, None
                await self._answer_offer(request, created, offered)
            return answer(request.call_id, created)
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
        may_queue = self._may_queue(request)
        # One at a time, so that the bound holds exactly among the calls that this instance queues.
        async with self._queueing:
            pending = await self._store.pending(timeout_s=LOOK_TIMEOUT_S) if may_queue else 0
            full = may_queue and pending >= self._settings.max_pending
            new = self._new_session(request, None, may_queue=may_queue and not full)
            created = await self._store.create(new, timeout_s=STORE_TIMEOUT_S)
        if created.status == "absent" and full:
            raise QueueFull(
                f"{pending} sessions are pending, and max_pending is {self._settings.max_pending}"
            )
        if created.status == "absent":
            raise NoFreeSlot(self._why_no_slot())
        if created.status == "repeated" and self._is_given_to_me(created):
            await self._answer_offer(request, created, None)
        if created.status == "created":
            self._tell_pending(
                Claim(request.call_id, created.session_id, created.fence),
                self._watch.why_closed or "no free slot",
            )
        return answer(request.call_id, created)

    def _may_queue(self, request: Placement) -> bool:
        return self._settings.admission == "queue" and not request.slot_only

    def _why_no_slot(self) -> str:
        busy = self._watch.why_closed
        why = f"takes nothing more: {busy}" if busy else "has no free slot"
        return f"instance {self.instance_id} {why} ({self.used} of {self.slots} slots taken)"

    def _reserve(self) -> Slot | None:
        return None if self._watch.gate.closed else self._slots.reserve()

    def _new_session(self, request: Placement, owner: Owner | None, *, may_queue: bool = True) -> NewSession:
        partition = partition_of(request.call_id, self._store.partitions)
        return NewSession(
            call_id=request.call_id,
            session_id=names.session_id(self._clock.wall_ms(), partition, self._random.getrandbits(40)),
            idempotency_key=request.idempotency_key or self._made_up_key(),
            # Under the same key another account is another request.
            body_digest=digest(request.body_digest, request.account),
            metadata=request.metadata,
            owner=owner,
            may_queue=may_queue,
            trace=tracing.carried(),
            account=request.seat.encoded() if request.seat else b"",
        )

    def _made_up_key(self) -> str:
        return f"{self._random.getrandbits(128):032x}"

    def _free(self) -> int:
        return 0 if self._watch.gate.closed else self.slots - self.used

    async def _ask_hook(
        self, call_id: str, metadata: bytes, cause: str, free_slots: int, account: str | None
    ) -> None:
        """Ask the hook, if there is one, whether a call is wanted here; raises CallRefused if it is not."""
        if self._hooks.on_call is None:
            return
        call = IncomingCall(
            call_id=call_id,
            metadata=msgspec.json.decode(metadata),
            instance_id=self.instance_id,
            free_slots=free_slots,
            account=account,
            cause=cause,
        )
        await ask(self._hooks.on_call, call)

    def _is_given_to_me(self, created: Creation) -> bool:
        """Whether the session was given to this process, which does not run it (yet)."""
        return (
            created.state == "active"
            and created.instance_id == self.instance_id
            and created.incarnation == self.incarnation
            and created.session_id not in self._roll
        )

    async def _answer_offer(self, request: Placement, given: Creation, slot: Slot | None) -> None:
        """Accept, or refuse, a session that a repeated request found to be this process's."""
        claim = Claim(request.call_id, given.session_id, given.fence)
        if slot is None:
            await self._refuse(claim, f"refused: {self._watch.why_closed or 'no free slot'}")
            return
        try:
            if await self._take_up(claim, slot, was_wanted=given.accepted):
                slot = None
        finally:
            if slot is not None:
                slot.free()

    async def _take_up(self, claim: Claim, slot: Slot, *, was_wanted: bool = False) -> bool:
        """Accept a session with the slot reserved for it; False if it cannot be had, and the slot is not taken."""
        if not self._offers.may_accept(claim):
            return False
        try:
            with self._offers.accepting(claim):
                if not was_wanted:
                    await self._ask_about(claim)
                sent_at_s = self._clock.monotonic_s()
                accepted = await self._store.accept(
                    self._registration.owner, claim, timeout_s=STORE_TIMEOUT_S
                )
                return accepted.status == "accepted" and self._start(claim, accepted, sent_at_s, slot)
        except CallRefused as refusal:
            # What nobody wants must not spin between the watchdog and us: it is offered ever more seldom.
            pause_s = backoff_s(self._offers.count_unwanted(claim.session_id))
            await self._refuse(claim, f"refused: {refusal.reason}", pause_s)
            return False

    async def _ask_about(self, claim: Claim) -> None:
        """Ask the hook about a session that is offered; raises CallRefused if it is not wanted."""
        if self._hooks.on_call is None:
            return
        ref = SessionRef(claim.call_id, claim.session_id)
        outline = await self._store.outline(ref, timeout_s=LOOK_TIMEOUT_S)
        if outline is not None:
            # The slot that is reserved for it is free to it.
            seat = seat_of(outline.account)
            account = seat.account if seat else None
            await self._ask_hook(claim.call_id, outline.metadata, outline.cause, self._free() + 1, account)

    async def _refuse(self, claim: Claim, reason: str, pause_s: float = 0.0) -> None:
        if not self._offers.refuse(claim):
            return
        written = await self._store.refuse(
            self._registration.owner, claim, reason, pause_s, timeout_s=STORE_TIMEOUT_S
        )
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

    def _start(
        self, claim: Claim, kept: Acceptance, sent_at_s: float, slot: Slot, *, is_fresh: bool = False
    ) -> bool:
        if self._group is None or self.state == "stopped":
            return False
        if not self._roll.start(self._group, self._surroundings(), claim, kept, sent_at_s, slot):
            return False
        if seat := seat_of(kept.account):
            actor = self._roll.actors[claim.session_id]
            end_call = partial(self.end, claim.call_id)
            self._accounts.keep(self._group, seat, actor, end_call, is_fresh=is_fresh)
        return True

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
            group.create_task(self._registration.keep(self._room, self._on_superseded), name="heartbeat")
            group.create_task(self._watch.run(), name="load")
            group.create_task(self._listen(group), name="inbox")

    def _room(self) -> Room:
        return Room(self.slots, self.used, self._watch.gate.load, self._watch.gate.closed)

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
        slot = self._reserve() if self.state == "ready" else None
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
                why = self.state if self.state != "ready" else self._watch.why_closed or "no free slot"
                self.meter.assignments.add("refused")
                await self._refuse(claim, f"refused: {why}")
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
        await self._registration.announce_drain(self._room)
        await self._roll.drain(self._settings.drain_timeout if self._settings.drain == "wait" else 0)
        await self._accounts.settle()
        await self._registration.leave("drained")
        self._registration.state = "stopped"
        self._registration.changed()
        self._stopped.set()


def _system_random() -> random.Random:
    return random.SystemRandom()
