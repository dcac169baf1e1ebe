"""Placing a call: whom to ask, in which order, and when to give up.

Invariants: all tries of one request carry the same idempotency key, so that an answer that was lost cannot
make a second session; an instance that refused, or could not be connected to, is not asked again; those that
do not want the call (their app's ``on_call``) do not use the tries up, for any other may want it; an answer
that tells the client something (2xx, 4xx) is passed on as it is.

Deadlines nest: all tries together, one try, and within it the instance's own towards Redis.
"""

import asyncio
import secrets

import msgspec

from mediaflow.api.messages import CallAnswer, Problem
from mediaflow.loadbalancer.courier import Answer, Courier, NoAnswer, NotConnected, Request
from mediaflow.loadbalancer.meter import BalancerMeter
from mediaflow.loadbalancer.roster import Roster
from mediaflow.settings import Admission
from mediaflow.store import InstanceRecord
from mediaflow.web.problems import CALL_REFUSED, STORE_UNAVAILABLE, Refusal, unavailable

TOTAL_TIMEOUT_S = 15.0
ROSTER_WAIT_S = 0.5
MAX_SLOT_TRIES = 5
MAX_LAST_TRIES = 3


class _Progress:
    """What the tries of one request have shown so far."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.silent: set[str] = set()
        self.unwilling: set[str] = set()
        self.unanswered = False
        self.last_refusal: Answer | None = None
        self._found_store_away = 0
        self.hopeless = False

    def kept_silent(self, instance_id: str) -> None:
        """Remember that an instance may have done what it was asked, or not."""
        self.silent.add(instance_id)
        self.unanswered = True

    def found_store_away(self, *, reached_by_us: bool) -> None:
        """Remember that an instance cannot reach Redis. One alone may be cut off; two, or we as well, are no chance."""
        self._found_store_away += 1
        self.hopeless = self._found_store_away > 1 or not reached_by_us

    @property
    def tries(self) -> int:
        return len(self.refused | self.silent)

    @property
    def asked(self) -> set[str]:
        return self.refused | self.silent | self.unwilling


class Balancer:
    """Places calls on the instances of a roster."""

    def __init__(self, roster: Roster, courier: Courier, admission: Admission) -> None:
        self._roster = roster
        self._courier = courier
        self._admission: Admission = admission
        self.meter = BalancerMeter()

    async def place(self, request: Request) -> Answer:
        """Have a call placed, and return what the instance answered.

        Raises:
            Refusal: 503: no instance is live, none has a free slot (admission ``reject``), or none answered.
        """
        request = request._replace(idempotency_key=request.idempotency_key or secrets.token_hex(16))
        progress = _Progress()
        try:
            async with asyncio.timeout(TOTAL_TIMEOUT_S):
                if not self._roster.live():
                    await self._roster.renewed(ROSTER_WAIT_S)
                answer = await self._try_free_slots(request, progress) or await self._try_any(
                    request, progress
                )
        except TimeoutError:
            self.meter.refusals.add("unanswered")
            raise _unanswered() from None
        return answer or self._give_up(progress)

    async def _try_free_slots(self, request: Request, progress: _Progress) -> Answer | None:
        while progress.tries < MAX_SLOT_TRIES and not progress.hopeless:
            record = self._roster.choose(progress.asked)
            if record is None:
                return None
            answer = await self._ask(record, request, progress, slot_only=True)
            if answer:
                return answer
        return None

    async def _try_any(self, request: Request, progress: _Progress) -> Answer | None:
        """Let any live instance queue the call; with admission ``reject``, ask those that looked full."""
        may_queue = self._admission == "queue"
        excluded = progress.silent | progress.unwilling if may_queue else progress.asked
        tries = 0
        while tries < MAX_LAST_TRIES and not progress.hopeless:
            record = self._roster.any_live(excluded)
            if record is None and progress.silent:
                # Nobody else is left: the repeated request may find the answer that was lost.
                excluded -= progress.silent
                progress.silent.clear()
                record = self._roster.any_live(excluded)
            if record is None:
                return None
            excluded.add(record.instance_id)
            answer = await self._ask(record, request, progress, slot_only=not may_queue)
            if answer:
                return answer
            tries += record.instance_id not in progress.unwilling
        return None

    async def _ask(
        self, record: InstanceRecord, request: Request, progress: _Progress, *, slot_only: bool
    ) -> Answer | None:
        """Ask one instance; None if another one should be asked."""
        name = record.instance_id
        with self._roster.counted(name) as ticket:
            try:
                answer = await self._courier.deliver(record.address, request, slot_only=slot_only)
            except NotConnected:
                self.meter.tries.add("unreachable")
                ticket.took_slot = False
                self._roster.suspect(name)
                return None
            except NoAnswer:
                self.meter.tries.add("silent")
                progress.kept_silent(name)
                return None
            self.meter.tries.add(_outcome(answer))
            if answer.status == 503:
                progress.last_refusal = answer
                kind = _kind(answer)
                if kind == CALL_REFUSED:
                    ticket.took_slot = False
                    progress.unwilling.add(name)
                    return None
                progress.refused.add(name)
                if kind == STORE_UNAVAILABLE:
                    progress.found_store_away(reached_by_us=not self._roster.problem)
                return None
            if answer.status >= 500:
                progress.kept_silent(name)
                return None
            ticket.took_slot = _took_slot(answer)
            return answer

    def _give_up(self, progress: _Progress) -> Answer:
        if progress.unanswered:
            self.meter.refusals.add("unanswered")
            raise _unanswered()
        if progress.last_refusal:
            away = _kind(progress.last_refusal) == STORE_UNAVAILABLE
            self.meter.refusals.add("store_unavailable" if away else "refused_by_instance")
            return progress.last_refusal
        if not self._roster.known:
            self.meter.refusals.add("instances_unknown")
            raise unavailable(f"the instances are not known: {self._roster.problem}")
        if not self._roster.live():
            self.meter.refusals.add("no_instance")
            raise unavailable("no instance is live: start one with python -m mediaflow.worker")
        self.meter.refusals.add("no_free_slot")
        raise unavailable("no instance has a free slot, and calls are not queued (admission = reject)")


def _unanswered() -> Refusal:
    return unavailable(
        "no instance answered in time; the call may or may not have been placed: "
        "repeat the request with the same Idempotency-Key"
    )


def _outcome(answer: Answer) -> str:
    if answer.status < 500:
        return "answered"
    return "refused" if answer.status == 503 else "silent"


def _kind(answer: Answer) -> str:
    """Return the type of a problem, empty if it is none."""
    try:
        return msgspec.json.decode(answer.body, type=Problem).type
    except msgspec.DecodeError:
        return ""


def _took_slot(answer: Answer) -> bool:
    if answer.status != 201:
        return False
    try:
        return msgspec.json.decode(answer.body, type=CallAnswer).state == "active"
    except msgspec.DecodeError:
        return True
