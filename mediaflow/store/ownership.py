"""The store as instances use it: making, holding and giving up sessions."""

import hashlib
from collections.abc import Sequence
from itertools import islice
from typing import Any

from mediaflow.settings import Settings
from mediaflow.store.batches import each
from mediaflow.store.batching import Gatherer
from mediaflow.store.link import Link
from mediaflow.store.part import text
from mediaflow.store.records import (
    Acceptance,
    Claim,
    Creation,
    Held,
    Holding,
    NewSession,
    Outline,
    Owner,
    Readoption,
    SessionRef,
    StoreError,
    Written,
)
from mediaflow.store.renewals import Renewals

MESSAGES_AT_ONCE = 20
"""Messages whose assignments are accepted in one request: each names as many as one script grants, at most."""

_Holdings = Sequence[Holding]
_Acceptances = Sequence[Acceptance | StoreError]


class Ownership(Renewals):
    """Scripts that create, accept, readopt, relinquish, write and complete."""

    def __init__(self, link: Link, settings: Settings) -> None:
        """See :class:`Part`."""
        super().__init__(link, settings)
        self._acceptances = Gatherer[_Holdings, _Acceptances](self._accept_all, largest=MESSAGES_AT_ONCE)
        self._relinquishments = Gatherer[Holding, Written](self._relinquish_all)

    async def create(self, new: NewSession, *, timeout_s: float = 2.0) -> Creation:
        """Make a session for a call, or find the one it has."""
        partition = self._keys.partition_of(new.call_id)
        owner = new.owner or Owner("", 0, "")
        field = idempotency_field(new.idempotency_key)
        reply = await self._ask(
            "create",
            partition,
            [
                *self._session_keys(partition, new.call_id, new.session_id),
                self._keys.owned(partition, owner[0]),
            ],
            [
                new.call_id,
                new.session_id,
                field,
                new.body_digest,
                new.metadata,
                owner.instance_id,
                owner.incarnation,
                owner.rank,
                int(new.may_queue),
                new.trace,
                new.account,
            ],
            timeout_s=timeout_s,
            replicas=self._settings.durability_replicas,
        )
        status: Any = text(reply[0])
        if status in ("conflict", "absent"):
            return Creation(status=status)
        state: Any = text(reply[3])
        return Creation(
            status=status,
            session_id=text(reply[1]),
            first_created=int(reply[2]) == 1,
            state=state,
            instance_id=text(reply[4]) if state == "active" else "",
            incarnation=int(reply[5]),
            fence=int(reply[6]),
            accepted=int(reply[7]) == 1,
            idempotency_key=field,
        )

    async def outline(self, ref: SessionRef, *, timeout_s: float = 2.0) -> Outline | None:
        """Return what a session is about, or None if it is not known."""
        await self._ensure_claimed(timeout_s)
        key = self._keys.session(self._keys.partition_of(ref.call_id), ref.session_id)
        found = await self._asker.commands(
            [("HMGET", key, "metadata", "cause", "account")], timeout_s=timeout_s
        )
        metadata, cause, account = found[0]
        return None if metadata is None else Outline(metadata, text(cause or b"created"), account or b"")

    async def accept(self, owner: Owner, claim: Claim, *, timeout_s: float = 2.0) -> Acceptance:
        """Take up an assignment."""
        answer = (await self.accept_many(owner, [claim], timeout_s=timeout_s))[0]
        if isinstance(answer, StoreError):
            raise answer
        return answer

    async def accept_many(
        self, owner: Owner, claims: Sequence[Claim], *, timeout_s: float = 2.0
    ) -> Sequence[Acceptance | StoreError]:
        """Take up assignments; those that are asked for in one turn go out together."""
        return await self._acceptances.submit([Holding(owner, claim) for claim in claims], timeout_s)

    async def readopt(self, owner: Owner, held: Held, *, timeout_s: float = 2.0) -> Readoption:
        """Put back a session that Redis forgot."""
        call_id, session_id, fence = held.claim
        partition = self._keys.partition_of(call_id)
        reply = await self._ask(
            "readopt",
            partition,
            [
                *self._session_keys(partition, call_id, session_id),
                self._keys.owned(partition, owner.instance_id),
            ],
            [
                *owner,
                call_id,
                session_id,
                fence,
                held.metadata,
                held.checkpoint or b"",
                held.checkpoint_number,
                held.details,
                held.attempt - 1,
                held.created_at_ms,
                held.idempotency_key,
                held.body_digest,
                held.trace,
                held.account,
            ],
            timeout_s=timeout_s,
        )
        match text(reply[0]):
            case "readopted":
                return Readoption("readopted", int(reply[1]))
            case "there":
                return Readoption("there", int(reply[1]))
            case _:
                return Readoption("lost")

    async def refuse(
        self, owner: Owner, claim: Claim, reason: str, backoff_s: float = 0.0, *, timeout_s: float = 2.0
    ) -> Written:
        """Give an assignment back, not having started it."""
        return await self._relinquish(owner, claim, timeout_s, "refuse", reason, int(backoff_s * 1000))

    async def release(self, owner: Owner, claim: Claim, reason: str, *, timeout_s: float = 2.0) -> Written:
        """Give a live session away; its last checkpoint stays."""
        return await self._relinquish(owner, claim, timeout_s, "release", reason, 0)

    async def fail(
        self, owner: Owner, claim: Claim, reason: str, backoff_s: float, *, timeout_s: float = 2.0
    ) -> Written:
        """Report that an attempt failed."""
        return await self._relinquish(owner, claim, timeout_s, "fail", reason, int(backoff_s * 1000))

    async def checkpoint(
        self, owner: Owner, claim: Claim, number: int, value: bytes, *, timeout_s: float = 2.0
    ) -> Written:
        """Store a checkpoint, unless a newer one is there."""
        return await self._write("checkpoint", owner, claim, number, value, timeout_s)

    async def publish(
        self, owner: Owner, claim: Claim, number: int, details: bytes, *, timeout_s: float = 2.0
    ) -> Written:
        """Store the published details, unless newer ones are there."""
        return await self._write("details", owner, claim, number, details, timeout_s)

    async def complete(self, owner: Owner, claim: Claim, *, timeout_s: float = 2.0) -> Written:
        """End the call, or yield to a senior live sibling."""
        call_id, session_id, fence = claim
        partition = self._keys.partition_of(call_id)
        siblings: list[str] = []
        while True:
            reply = await self._ask(
                "complete",
                partition,
                [
                    *self._session_keys(partition, call_id, session_id),
                    self._keys.owned(partition, owner.instance_id),
                    *(self._keys.session(partition, sibling) for sibling in siblings),
                ],
                [call_id, session_id, owner.instance_id, owner.incarnation, fence, *siblings],
                timeout_s=timeout_s,
            )
            if text(reply[0]) != "siblings":
                return _written(reply)
            # Keys must be declared before they are touched, and only the script knows which siblings live now.
            siblings.extend(text(found) for found in reply[1:])

    async def _relinquish(self, owner: Owner, claim: Claim, timeout_s: float, *what: str | int) -> Written:
        return await self._relinquishments.submit(Holding(owner, claim, what), timeout_s)

    async def _write(
        self, field: str, owner: Owner, claim: Claim, number: int, value: bytes, timeout_s: float
    ) -> Written:
        call_id, session_id, fence = claim
        partition = self._keys.partition_of(call_id)
        reply = await self._ask(
            "write",
            partition,
            [self._keys.call(partition, call_id), self._keys.session(partition, session_id)],
            [field, call_id, session_id, owner.instance_id, owner.incarnation, fence, number, value],
            timeout_s=timeout_s,
        )
        return _written(reply)

    async def _accept_all(self, messages: Sequence[_Holdings], timeout_s: float) -> Sequence[_Acceptances]:
        items = [item for message in messages for item in message]
        answers = iter(each(_acceptance, await self._ask_batches("accept", items, timeout_s)))
        return [list(islice(answers, len(message))) for message in messages]

    async def _relinquish_all(
        self, items: Sequence[Holding], timeout_s: float
    ) -> Sequence[Written | Exception]:
        return each(_written, await self._ask_batches("relinquish", items, timeout_s))


def idempotency_field(key: str) -> str:
    """Return what is stored of an idempotency key: a digest, since the key is of any length and content."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _written(reply: Any) -> Written:
    status: Any = text(reply[0])
    if status == "refenced":
        return Written("refenced", fence=int(reply[1]))
    if status == "yielded":
        return Written("yielded", winner=text(reply[1]))
    return Written(status)


def _acceptance(reply: Any) -> Acceptance:
    status: Any = text(reply[0])
    if status != "accepted":
        return Acceptance(status=status)
    fence, metadata, checkpoint, number, details, failures, cause, created_at, field, digest, *more = reply[
        1:
    ]
    trace, account, vacated_by, vacant_ms, waited_ms = more
    return Acceptance(
        status="accepted",
        fence=int(fence),
        metadata=metadata,
        checkpoint=checkpoint or None,
        checkpoint_number=int(number or 0),
        details=details or b"{}",
        attempt=int(failures or 0) + 1,
        cause=text(cause),
        vacated_by=text(vacated_by),
        vacant_ms=int(vacant_ms) if vacant_ms else None,
        waited_ms=int(waited_ms),
        created_at_ms=int(created_at or 0),
        idempotency_key=text(field),
        body_digest=text(digest),
        trace=text(trace),
        account=account,
    )
