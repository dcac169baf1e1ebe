"""Makes the session of a call, or finds the one that it has.

Invariants: a slot is reserved before a session is asked for, and without one the session is made *pending* or not at
all. Among the calls that this instance queues, ``max_pending`` holds exactly.
"""

import asyncio

from mediaflow.api.messages import CallAnswer
from mediaflow.core import names
from mediaflow.core.partitions import partition_of
from mediaflow.runtime.placing import NoFreeSlot, Placement, QueueFull, answer, digest, fresh
from mediaflow.runtime.premises import LOOK_TIMEOUT_S, Premises
from mediaflow.runtime.reception import Reception
from mediaflow.runtime.registration import STORE_TIMEOUT_S
from mediaflow.store import Claim, NewSession, Owner
from mediaflow.telemetry import tracing


class Maker:
    """Makes sessions for calls that may be placed here; who may is the :class:`~mediaflow.runtime.placer.Placer`'s."""

    def __init__(self, premises: Premises, reception: Reception) -> None:
        """``reception`` answers for sessions that turn out to have been offered to this process."""
        self._premises = premises
        self._reception = reception
        self._queueing = asyncio.Lock()

    async def find(self, request: Placement) -> CallAnswer | None:
        """Return the answer for a call that has a session, None if it has none."""
        sought = self._new_session(request, None, may_queue=False)
        found = await self._premises.store.create(sought, timeout_s=LOOK_TIMEOUT_S)
        if found.status == "absent":
            return None
        if found.status == "repeated" and self._reception.is_offered(found):
            await self._reception.answer_repeated(request.call_id, found, self._premises.capacity.reserve())
        return answer(request.call_id, found)

    async def make(self, request: Placement) -> CallAnswer:
        """Make the session, or find it; raises NoFreeSlot or QueueFull if neither is possible."""
        slot = self._premises.capacity.reserve()
        if slot is None:
            return await self._make_without_slot(request)
        clock, store = self._premises.clock, self._premises.store
        try:
            sent_at_s = clock.monotonic_s()
            new = self._new_session(request, self._premises.registration.owner)
            created = await store.create(new, timeout_s=STORE_TIMEOUT_S)
            claim = Claim(request.call_id, created.session_id, created.fence)
            if created.status == "created":
                kept = fresh(new, created, clock.wall_ms())
                if self._premises.roll.start(claim, kept, sent_at_s, slot, is_fresh=True):
                    slot = None
            elif created.status == "repeated" and self._reception.is_offered(created):
                offered, slot = slot, None
                await self._reception.answer_repeated(request.call_id, created, offered)
            return answer(request.call_id, created)
        finally:
            if slot is not None:
                slot.free()

    async def _make_without_slot(self, request: Placement) -> CallAnswer:
        store, max_pending = self._premises.store, self._premises.settings.max_pending
        may_queue = self._may_queue(request)
        # One at a time, so that the bound holds exactly among the calls that this instance queues.
        async with self._queueing:
            pending = await store.pending(timeout_s=LOOK_TIMEOUT_S) if may_queue else 0
            full = may_queue and pending >= max_pending
            new = self._new_session(request, None, may_queue=may_queue and not full)
            created = await store.create(new, timeout_s=STORE_TIMEOUT_S)
        if created.status == "absent" and full:
            raise QueueFull(f"{pending} sessions are pending, and max_pending is {max_pending}")
        if created.status == "absent":
            raise self._no_free_slot()
        if created.status == "repeated" and self._reception.is_offered(created):
            await self._reception.answer_repeated(request.call_id, created, None)
        if created.status == "created":
            claim = Claim(request.call_id, created.session_id, created.fence)
            self._reception.tell_pending(claim, self._premises.capacity.why_none)
        return answer(request.call_id, created)

    def expect_room(self, request: Placement) -> None:
        """Raise NoFreeSlot for a call that could be neither run nor queued now."""
        if self._premises.capacity.free <= 0 and not self._may_queue(request):
            raise self._no_free_slot()

    def made_up_key(self) -> str:
        """Return an idempotency key for a request that has none."""
        return f"{self._premises.random.getrandbits(128):032x}"

    def _may_queue(self, request: Placement) -> bool:
        return self._premises.settings.admission == "queue" and not request.slot_only

    def _no_free_slot(self) -> NoFreeSlot:
        instance_id = self._premises.registration.instance_id
        return NoFreeSlot(f"instance {instance_id} {self._premises.capacity.verdict}")

    def _new_session(self, request: Placement, owner: Owner | None, *, may_queue: bool = True) -> NewSession:
        clock, chance = self._premises.clock, self._premises.random
        partition = partition_of(request.call_id, self._premises.store.partitions)
        return NewSession(
            call_id=request.call_id,
            session_id=names.session_id(clock.wall_ms(), partition, chance.getrandbits(40)),
            idempotency_key=request.idempotency_key or self.made_up_key(),
            # Under the same key another account is another request.
            body_digest=digest(request.body_digest, request.account),
            metadata=request.metadata,
            owner=owner,
            may_queue=may_queue,
            trace=tracing.carried(),
            account=request.seat.encoded() if request.seat else b"",
        )
