"""Answers the sessions that an instance is offered: accepts one with the slot reserved for it, or refuses it.

They come as assignments, and as answers to repeated requests; :class:`~mediaflow.runtime.offers.Offers` keeps the
answers to one offer from crossing. Not guaranteed: that each is answered. The acceptance lease lapses without one, and
says the same as a refusal, a little later.
"""

import asyncio
from typing import Any

import structlog

from mediaflow.core.tenure import backoff_s
from mediaflow.runtime.door import Door
from mediaflow.runtime.offers import Offers
from mediaflow.runtime.oncall import CallRefused
from mediaflow.runtime.premises import Premises
from mediaflow.runtime.registration import STORE_TIMEOUT_S
from mediaflow.runtime.slots import Slot
from mediaflow.store import Claim, Creation, StoreError

log: Any = structlog.get_logger("mediaflow.instance")

REFUSALS_AT_ONCE = 100
"""Anybody who can publish may offer us sessions: so many refusals are under way at most."""


class Reception:
    """Takes in what is offered to an instance."""

    def __init__(self, premises: Premises, door: Door) -> None:
        """Begin with no offer."""
        self._premises = premises
        self._door = door
        self._offers = Offers()
        self._refusals: set[asyncio.Task[None]] = set()

    def on_assignment(self, group: asyncio.TaskGroup, claim: Claim) -> None:
        """Answer an assignment to this process, as a task of ``group``."""
        capacity, roll = self._premises.capacity, self._premises.roll
        if claim.session_id in roll:
            # It runs here still, and was given to us anew: the renewal takes the new fence.
            roll.ask_now(claim.session_id)
            return
        slot = capacity.reserve() if self._premises.registration.state == "ready" else None
        if slot is None and len(self._refusals) >= REFUSALS_AT_ONCE:
            return  # the acceptance lease says the same, a little later
        answering = group.create_task(
            self._answer_assignment(claim, slot), name=f"assignment {claim.session_id}"
        )
        if slot is None:
            self._refusals.add(answering)
            answering.add_done_callback(self._refusals.discard)

    def is_offered(self, created: Creation) -> bool:
        """Whether the session was given to this process, which does not run it (yet)."""
        registration = self._premises.registration
        return (
            created.state == "active"
            and created.instance_id == registration.instance_id
            and created.incarnation == registration.incarnation
            and created.session_id not in self._premises.roll
        )

    async def answer_repeated(self, call_id: str, offered: Creation, slot: Slot | None) -> None:
        """Accept, or refuse, a session that a repeated request found to be this process's; ``slot`` is taken."""
        claim = Claim(call_id, offered.session_id, offered.fence)
        if slot is None:
            await self._refuse(claim, f"refused: {self._premises.capacity.why_none}")
            return
        try:
            if await self._take_up(claim, slot, was_wanted=offered.accepted):
                slot = None
        finally:
            if slot is not None:
                slot.free()

    def tell_pending(self, claim: Claim, reason: str) -> None:
        """Log that a session waits for an owner, and why it is not this instance."""
        log.info(
            "session.pending",
            call=claim.call_id,
            session=claim.session_id,
            instance=self._premises.registration.instance_id,
            fence=claim.fence,
            reason=reason,
        )

    async def _answer_assignment(self, claim: Claim, slot: Slot | None) -> None:
        assignments, registration = self._premises.meter.assignments, self._premises.registration
        try:
            if slot is None:
                state = registration.state
                why = state if state != "ready" else self._premises.capacity.why_none
                assignments.add("refused")
                await self._refuse(claim, f"refused: {why}")
            elif await self._take_up(claim, slot):
                slot = None
                assignments.add("accepted")
            else:
                assignments.add("void")
        except StoreError as error:
            assignments.add("unanswered")
            # The acceptance lease lapses, and the session is given again.
            log.warning(
                "session.not_accepted",
                call=claim.call_id,
                session=claim.session_id,
                instance=registration.instance_id,
                fence=claim.fence,
                reason=str(error),
            )
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
                    await self._door.ask_about_offered(claim)
                sent_at_s = self._premises.clock.monotonic_s()
                owner = self._premises.registration.owner
                accepted = await self._premises.store.accept(owner, claim, timeout_s=STORE_TIMEOUT_S)
                return accepted.status == "accepted" and self._premises.roll.start(
                    claim, accepted, sent_at_s, slot
                )
        except CallRefused as refusal:
            # What nobody wants must not spin between the watchdog and us: it is offered ever more seldom.
            pause_s = backoff_s(self._offers.count_unwanted(claim.session_id))
            await self._refuse(claim, f"refused: {refusal.reason}", pause_s)
            return False

    async def _refuse(self, claim: Claim, reason: str, pause_s: float = 0.0) -> None:
        if not self._offers.refuse(claim):
            return
        owner = self._premises.registration.owner
        written = await self._premises.store.refuse(owner, claim, reason, pause_s, timeout_s=STORE_TIMEOUT_S)
        if written.status == "written":
            self.tell_pending(claim, reason)
