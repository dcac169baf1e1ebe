"""Answers the sessions that an instance is offered: accepts one with the slot reserved for it, or refuses it.

They come as assignments, and as answers to repeated requests; :class:`~mediaflow.runtime.offers.Offers` keeps the
answers to one offer from crossing. Not guaranteed: that each is answered. The acceptance lease lapses without one, and
says the same as a refusal, a little later.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
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

REFUSALS_AT_ONCE = 500
"""Anybody who can publish may offer us sessions: so many refusals are under way at most. What is not answered
lapses, which says the same, a little later."""


class Reception:
    """Takes in what is offered to an instance."""

    def __init__(self, premises: Premises, door: Door) -> None:
        """Begin with no offer."""
        self._premises = premises
        self._door = door
        self._offers = Offers()
        self._refusing = 0

    def on_assignments(self, group: asyncio.TaskGroup, claims: Iterable[Claim]) -> None:
        """Answer the assignments of one message to this process, together, as tasks of ``group``."""
        capacity, roll = self._premises.capacity, self._premises.roll
        is_ready = self._premises.registration.state == "ready"
        taken: dict[Claim, Slot] = {}
        refused: list[Claim] = []
        for claim in dict.fromkeys(claims):
            if claim.session_id in roll:
                # It runs here still, and was given to us anew: the renewal takes the new fence.
                roll.ask_now(claim.session_id)
            elif is_ready and (slot := capacity.reserve()):
                taken[claim] = slot
            elif self._refusing + len(refused) < REFUSALS_AT_ONCE:
                refused.append(claim)
        if refused:
            self._refusing += len(refused)
            group.create_task(self._refuse_assignments(refused), name=f"{len(refused)} refusals")
        # The hook is asked about each call by itself, and one for which it takes its time keeps no other waiting.
        together = [{claim: slot} for claim, slot in taken.items()] if self._door.is_guarded else [taken]
        for offered in together:
            if offered:
                group.create_task(self._take_up_assignments(offered), name=f"{len(offered)} assignments")

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
        outcomes = await self._take_up({claim: slot}, STORE_TIMEOUT_S, was_wanted=offered.accepted)
        if isinstance(outcome := outcomes[claim], StoreError):
            raise outcome

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

    async def _refuse_assignments(self, claims: Sequence[Claim]) -> None:
        """Give assignments back for which there is no slot."""
        state = self._premises.registration.state
        why = f"refused: {self._premises.capacity.why_none if state == 'ready' else state}"
        self._premises.meter.assignments.add("refused", by=len(claims))
        try:
            await asyncio.gather(*(self._refuse_assignment(claim, why) for claim in claims))
        finally:
            self._refusing -= len(claims)

    async def _refuse_assignment(self, claim: Claim, why: str) -> None:
        try:
            await self._refuse(claim, why)
        except StoreError as error:
            self._tell_unanswered(claim, error)

    async def _take_up_assignments(self, offered: Mapping[Claim, Slot]) -> None:
        # Redis may have heard an acceptance whose answer is lost, and then waits a whole lease for the owner that it
        # knows: as long it is worth asking again.
        outcomes = await self._take_up(offered, self._premises.settings.lease_ttl)
        for claim, outcome in outcomes.items():
            if isinstance(outcome, StoreError):
                self._tell_unanswered(claim, outcome)
            else:
                self._premises.meter.assignments.add("accepted" if outcome else "void")

    def _tell_unanswered(self, claim: Claim, error: StoreError) -> None:
        """Log that Redis may not have heard an answer: a lease lapses, and the session is given again."""
        self._premises.meter.assignments.add("unanswered")
        log.warning(
            "session.not_accepted",
            call=claim.call_id,
            session=claim.session_id,
            instance=self._premises.registration.instance_id,
            fence=claim.fence,
            reason=str(error),
        )

    async def _take_up(
        self, offered: Mapping[Claim, Slot], timeout_s: float, *, was_wanted: bool = False
    ) -> dict[Claim, bool | StoreError]:
        """Accept and start sessions with the slots reserved for them; a slot that is not needed is given back.

        Returns:
            Of each whether it runs here from now on, or the error for which that is not known.
        """
        outcomes: dict[Claim, bool | StoreError] = dict.fromkeys(offered, False)
        claims = [claim for claim in offered if self._offers.may_accept(claim)]
        try:
            outcomes.update(await self._accept(claims, offered, timeout_s, was_wanted=was_wanted))
        except CallRefused as refusal:
            # What nobody wants must not spin between the watchdog and us: it is offered ever more seldom.
            for claim in claims:
                pause_s = backoff_s(self._offers.count_unwanted(claim.session_id))
                try:
                    await self._refuse(claim, f"refused: {refusal.reason}", pause_s)
                except StoreError as error:
                    outcomes[claim] = error
        finally:
            for claim, slot in offered.items():
                if outcomes[claim] is not True:
                    slot.free()
        return outcomes

    async def _accept(
        self, claims: Sequence[Claim], slots: Mapping[Claim, Slot], timeout_s: float, *, was_wanted: bool
    ) -> dict[Claim, bool | StoreError]:
        with self._offers.accepting(claims):
            owner = self._premises.registration.owner
            try:
                if not was_wanted:
                    for claim in claims:
                        await self._door.ask_about_offered(claim)
                sent_at_s = self._premises.clock.monotonic_s()
                answers = await self._premises.store.accept_many(owner, claims, timeout_s=timeout_s)
            except StoreError as error:
                return dict.fromkeys(claims, error)
            return {
                claim: answer
                if isinstance(answer, StoreError)
                else answer.status == "accepted"
                and self._premises.roll.start(claim, answer, sent_at_s, slots[claim])
                for claim, answer in zip(claims, answers, strict=True)
            }

    async def _refuse(self, claim: Claim, reason: str, pause_s: float = 0.0) -> None:
        if not self._offers.refuse(claim):
            return
        owner = self._premises.registration.owner
        written = await self._premises.store.refuse(owner, claim, reason, pause_s, timeout_s=STORE_TIMEOUT_S)
        if written.status == "written":
            self.tell_pending(claim, reason)
