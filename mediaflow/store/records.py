"""What crosses the store's interface: plain frozen data, and the errors that say why there is none.

Times are in milliseconds: ``*_at_ms`` is wall time by the clock of Redis; *lease time* never crosses
the interface but as a duration.
"""

from typing import Literal, NamedTuple

import msgspec

from mediaflow.core.states import SessionState

LIVE_STATES: frozenset[str] = frozenset({"active", "pending"})
InstanceState = Literal["ready", "draining"]


class StoreError(Exception):
    """Something is wrong with the store, or with what was asked of it."""


class StoreUnavailable(StoreError):
    """Redis could not be reached, or did not answer in time; what was asked may have happened."""


class NamespaceMismatch(StoreError):
    """The namespace was first used with other constants (number of partitions); nothing was changed."""


class NotDurable(StoreUnavailable):
    """The write was applied, but fewer replicas than ``durability_replicas`` hold it."""


class Owner(NamedTuple):
    """One incarnation of an instance, as far as ownership is concerned."""

    instance_id: str
    incarnation: int
    rank: str


class Claim(NamedTuple):
    """What an owner believes to hold: a session under a fence."""

    call_id: str
    session_id: str
    fence: int


class Holding(NamedTuple):
    """An item of a batch: a claim of an owner, and what the script takes for it besides."""

    owner: Owner
    claim: Claim
    more: tuple[str | int, ...] = ()


NEW_FENCE = ("new fence",)
"""What a renewal takes besides its claim if it is to bring a new fence."""


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A request to make a session for a call.

    Attributes:
        idempotency_key: Never empty: an instance makes one up where the client sent none.
        body_digest: Digest of the request's body; another one under the same key is a conflict.
        metadata: A JSON object, encoded.
        owner: The caller, if it has reserved a slot.
        may_queue: Without an owner: make the session all the same, pending; else only look for one.
        trace: The trace context of the request, see :mod:`mediaflow.core.traces`; empty without one.
        account: Whom the call counts for, as :mod:`mediaflow.runtime.account` writes it; empty for nobody.
    """

    call_id: str
    session_id: str
    idempotency_key: str
    body_digest: str
    metadata: bytes
    owner: Owner | None
    may_queue: bool = True
    trace: str = ""
    account: bytes = b""


class Creation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to :meth:`Store.create`.

    Attributes:
        status: ``created``: this very request made the session. ``existing``: the call had a live one.
            ``repeated``: the idempotency key was known; ``first_created`` is what its first answer said.
            ``conflict``: the key was known with another body; nothing else is set. ``absent``: there is none,
            and none was to be made; nothing else is set.
        first_created: What ``created`` is in the answer to the client.
        state, instance_id, incarnation, fence: The session's *current* record; ``instance_id`` is empty if it
            has no owner.
        accepted: The owner has already started it (as opposed to: it was offered and has not answered).
        idempotency_key: As in :class:`Acceptance`.
    """

    status: Literal["created", "existing", "repeated", "conflict", "absent"]
    session_id: str = ""
    first_created: bool = False
    state: SessionState = "pending"
    instance_id: str = ""
    incarnation: int = 0
    fence: int = 0
    accepted: bool = False
    idempotency_key: str = ""


class Outline(NamedTuple):
    """What a session is about, as far as who may take it up has to know; as in :class:`Acceptance`."""

    metadata: bytes
    cause: str
    account: bytes = b""


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to :meth:`Store.accept`: with ``accepted`` everything that a handler needs.

    Attributes:
        status: ``accepted``, ``lost`` (given to another, or ended), ``unknown`` (Redis forgot it).
        checkpoint: Encoded JSON, None if there is none yet; ``checkpoint_number`` grows with each.
        attempt: 1 for the first; counts failed attempts, not takeovers.
        cause: Why the session starts here: ``created``, ``takeover``, ``handoff`` or ``retry``.
        vacated_by: What its last owner was lost by, in words; empty if it had none.
        vacant_ms: Lease time since that owner's last sign of life; None if it had none.
        waited_ms: Time since the session was made, by the clock of Redis; None if this very request made it.
        idempotency_key, body_digest: What made the session, to be put back by ``readopt``.
        trace: The trace context of the request that made it; empty without one.
        account: As in :class:`NewSession`.
    """

    status: Literal["accepted", "lost", "unknown"]
    fence: int = 0
    metadata: bytes = b"{}"
    checkpoint: bytes | None = None
    checkpoint_number: int = 0
    details: bytes = b"{}"
    attempt: int = 1
    cause: str = "created"
    vacated_by: str = ""
    vacant_ms: int | None = None
    waited_ms: int | None = None
    created_at_ms: int = 0
    idempotency_key: str = ""
    body_digest: str = ""
    trace: str = ""
    account: bytes = b""


class Renewal(NamedTuple):
    """The answer to :meth:`Store.renew`.

    ``renewed``: held for another ttl. ``refenced``: likewise, under the new ``fence``. ``lost``: another's.
    ``cancelled``: ended by someone else. ``yielded``: ended here in favour of ``winner`` (a session id).
    ``unknown``: Redis forgot it; see ``readopt``.

    ``overlap_ms``: with ``lost``, the lease time since the next owner started it; None if none did.
    """

    status: Literal["renewed", "refenced", "lost", "cancelled", "yielded", "unknown"]
    fence: int = 0
    winner: str = ""
    overlap_ms: int | None = None


RENEWED = Renewal("renewed")
"""What nearly every renewal says."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """All that an owner knows of its session: what ``readopt`` puts back."""

    claim: Claim
    metadata: bytes
    checkpoint: bytes | None
    checkpoint_number: int
    details: bytes
    attempt: int
    created_at_ms: int
    idempotency_key: str
    body_digest: str
    trace: str = ""
    account: bytes = b""


class Readoption(NamedTuple):
    """The answer to :meth:`Store.readopt`.

    ``readopted`` under the new ``fence``; ``there``: Redis has it, of this owner and under ``fence``, and it must be
    renewed now; ``lost``.
    """

    status: Literal["readopted", "there", "lost"]
    fence: int = 0


class Written(NamedTuple):
    """The answer to a fenced write.

    ``written``; ``refenced``: nothing was written, the caller's fence is now ``fence``, write again;
    ``yielded``: (complete only) the session gave way to ``winner``; ``lost``; ``unknown``: readopt, write again.
    ``failed``: (fail only) that was the last attempt.
    """

    status: Literal["written", "failed", "refenced", "yielded", "lost", "unknown"]
    fence: int = 0
    winner: str = ""


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One session as ``describe`` shows it; ``lease_remaining_ms`` is 0 without a live lease."""

    session_id: str
    state: SessionState
    instance_id: str
    incarnation: int
    fence: int
    attempt: int
    lease_remaining_ms: int
    details: bytes
    created_at_ms: int
    end_reason: str


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A call with its sessions, oldest first; a call has at least one."""

    call_id: str
    state: SessionState
    sessions: tuple[SessionRecord, ...]


class CallPage(NamedTuple):
    """A page of calls and the cursor of the next, None at the end. A page may be short, even empty."""

    calls: list[CallRecord]
    cursor: str | None


class InstanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One instance as it described itself with its last heartbeat.

    ``address`` is ``host:port``, empty for an embedded instance. ``alive``: its heartbeat has not expired.
    ``load`` is from 0 to 1, None if it is not measured; ``overloaded``: it takes nothing new because of it.
    ``renewals_per_s``: leases that it renewed a second, over its last seconds.
    """

    instance_id: str
    incarnation: int
    rank: str
    address: str
    slots: int
    used: int
    state: InstanceState
    version: str
    started_at_ms: int
    heartbeat_age_ms: int
    alive: bool
    load: float | None = None
    overloaded: bool = False
    renewals_per_s: float = 0.0

    @property
    def free(self) -> int:
        """Slots that may be given, as of its last heartbeat; 0 unless it is ready, alive and not overloaded."""
        takes_more = self.alive and self.state == "ready" and not self.overloaded
        return max(0, self.slots - self.used) if takes_more else 0


class InstanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance says of itself with each heartbeat.

    ``token`` is random and fixed for the life of the process; ``incarnation`` is 0 until Redis gave one.
    ``load``, ``overloaded`` and ``renewals_per_s`` are as in :class:`InstanceRecord`.
    """

    instance_id: str
    token: str
    incarnation: int
    rank: str
    address: str
    slots: int
    used: int
    state: InstanceState
    version: str
    started_at_ms: int
    load: float | None = None
    overloaded: bool = False
    renewals_per_s: float = 0.0

    @property
    def free(self) -> int:
        """Slots that it may be given now."""
        return max(0, self.slots - self.used) if self.state == "ready" and not self.overloaded else 0


class Beat(NamedTuple):
    """The answer to a heartbeat: ``alive`` under ``incarnation``, or ``superseded`` by a newer process."""

    status: Literal["alive", "superseded"]
    incarnation: int


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A change of state, as a script logged it.

    ``event_id`` is ``<ms>-<sequence>-<partition>`` and gives the total order of events.
    """

    event_id: str
    at_ms: int
    event: str
    call_id: str
    session_id: str
    instance_id: str
    fence: int
    reason: str


class EventBatch(NamedTuple):
    """Events in order, and where to go on; ``reset``: some that were asked for are gone."""

    events: list[Event]
    position: "EventPosition"
    reset: bool


class EventPosition(msgspec.Struct, frozen=True):
    """How far each log has been read: the last stream id seen, by partition (the registry's comes last)."""

    last_ids: tuple[str, ...]


class SessionRef(NamedTuple):
    """A session as the indexes name it."""

    call_id: str
    session_id: str


class Waiting(NamedTuple):
    """A pending session that may be assigned now, and for how long it has been waiting."""

    ref: SessionRef
    waiting_ms: int


class PartitionView(msgspec.Struct, frozen=True, kw_only=True):
    """What a tick of a partition shows.

    Attributes:
        expired: Sessions whose lease seems over, a bounded number; :meth:`Store.sweep` checks again.
        next_expiry_in_ms: Until the next lease can expire; None without a live lease.
        waiting: Pending sessions that may be assigned now, oldest first, a bounded number.
        next_waiting_in_ms: Until a pending session that backs off may be assigned; None if none does.
        pending: How many sessions are pending in all.
        leased: How many have a lease, or an assignment to be accepted.
    """

    partition: int
    expired: tuple[SessionRef, ...]
    next_expiry_in_ms: int | None
    waiting: tuple[Waiting, ...]
    next_waiting_in_ms: int | None
    pending: int
    leased: int


class Grant(NamedTuple):
    """The wish to give a pending session to an instance."""

    ref: SessionRef
    owner: Owner


AssignStatus = Literal["assigned", "yielded", "skipped"]


class Assignments(NamedTuple):
    """Inbox message: this instance was given sessions, and should accept or refuse each of them."""

    claims: tuple[Claim, ...]
    incarnation: int


class Hint(NamedTuple):
    """Inbox message: something happened to a session that the next renewal will tell: ask now."""

    session_id: str


class Changed(NamedTuple):
    """Message to balancers, watchdogs and consoles.

    Attributes:
        what: ``pending``, ``instances`` or ``resync``.
        draining: Of instances, the one that began to drain; empty if that is not what changed.
    """

    what: str
    draining: str = ""
