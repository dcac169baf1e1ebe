"""What is asked of an instance that is to place a call, what it answers, and the ways in which it says no."""

import hashlib

import msgspec

from mediaflow.api.messages import CallAnswer
from mediaflow.runtime.account import Seat
from mediaflow.store import Acceptance, Creation, NewSession


class NoFreeSlot(Exception):
    """All slots are taken, or the load is above its threshold, and calls are not queued (``admission = "reject"``).

    Nothing was changed: try later.
    """


class QueueFull(Exception):
    """As many sessions are pending as ``max_pending`` allows. Nothing was changed: try again later."""


class Draining(Exception):
    """The instance takes nothing new, because it is about to end. Nothing was changed: ask another."""


class KeyConflict(Exception):
    """The idempotency key was used for this call with other metadata. Nothing was changed: take a new key."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """What a POST asks of an instance.

    Attributes:
        metadata: A JSON object, encoded.
        body_digest: Tells bodies apart that come under the same idempotency key.
        idempotency_key: None if the client sent none.
        slot_only: Do not queue the call: the asker knows other instances.
        account: Whom the call counts for, None for nobody.
        seat: Its place among the streams of the account, once it has one.
    """

    call_id: str
    metadata: bytes
    body_digest: str
    idempotency_key: str | None = None
    slot_only: bool = False
    account: str | None = None
    seat: Seat | None = None


def fresh(new: NewSession, created: Creation, now_ms: int) -> Acceptance:
    """Return what a handler needs of a session that this process has just made."""
    return Acceptance(
        status="accepted",
        fence=created.fence,
        metadata=new.metadata,
        created_at_ms=now_ms,
        idempotency_key=created.idempotency_key,
        body_digest=new.body_digest,
        trace=new.trace,
        account=new.account,
    )


def digest(body_digest: str, account: str | None) -> str:
    """Return what tells requests apart that come under the same key."""
    if account is None:
        return body_digest
    return hashlib.blake2b(f"{body_digest}/{account}".encode(), digest_size=16).hexdigest()


def answer(call_id: str, created: Creation) -> CallAnswer:
    """Return what is answered about a call that has a session.

    Raises:
        KeyConflict: The idempotency key was used with another body.
    """
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
