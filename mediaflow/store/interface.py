"""What the rest of mediaflow may ask of Redis: one narrow interface, each method one atomic step.

Any write may be asked for twice with the same arguments and changes nothing the second time.
A request that could not be answered raises :class:`StoreUnavailable`, and *may have happened*:
the caller repeats it or leaves it to the lease.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

from mediaflow.store.batches import Lot
from mediaflow.store.records import (
    Acceptance,
    Assignments,
    AssignStatus,
    Beat,
    CallPage,
    CallRecord,
    Changed,
    Claim,
    Creation,
    Event,
    EventBatch,
    EventPosition,
    Grant,
    Held,
    Hint,
    Holding,
    InstanceRecord,
    InstanceReport,
    NewSession,
    Outline,
    Owner,
    PartitionView,
    Readoption,
    Renewal,
    SessionRef,
    SessionState,
    StoreError,
    Written,
)


class Store(Protocol):
    """The store of one namespace. Every method may raise :class:`StoreUnavailable`.

    ``timeout_s`` bounds a request with all its retries. :attr:`generation` changes whenever the server
    behind the connection may not be the same, or not have the same data, as before.
    """

    @property
    def partitions(self) -> int:
        """Number of partitions of the namespace."""
        ...

    @property
    def generation(self) -> int:
        """Count of times that Redis was reached anew, or showed another ``run_id``."""
        ...

    async def check(self, *, timeout_s: float = 2.0) -> None:
        """Reach Redis, claim or verify the namespace, and update :attr:`generation`.

        Raises:
            NamespaceMismatch: The namespace has other constants; trying again will not help.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...

    # -- sessions, by instances -------------------------------------------------------------

    async def create(self, new: NewSession, *, timeout_s: float = 2.0) -> Creation:
        """Make a session for a call, or find the one it has."""
        ...

    async def outline(self, ref: SessionRef, *, timeout_s: float = 2.0) -> Outline | None:
        """Return what a session is about, or None if it is not known."""
        ...

    async def accept(self, owner: Owner, claim: Claim, *, timeout_s: float = 2.0) -> Acceptance:
        """Take up an assignment; on ``accepted`` the lease runs for a full ttl."""
        ...

    async def accept_many(
        self, owner: Owner, claims: Sequence[Claim], *, timeout_s: float = 2.0
    ) -> Sequence[Acceptance | StoreError]:
        """Take up assignments; the answers come in their order, an error in the place of one that is damaged."""
        ...

    async def refuse(
        self, owner: Owner, claim: Claim, reason: str, backoff_s: float = 0.0, *, timeout_s: float = 2.0
    ) -> Written:
        """Give an assignment back, not having started it; the next is due after ``backoff_s``."""
        ...

    async def renew(
        self, owner: Owner, claim: Claim, *, new_fence: bool = False, timeout_s: float = 2.0
    ) -> Renewal:
        """Extend the lease, check for siblings, and hear of a cancel."""
        ...

    def lot(self, leases: Sequence[Holding]) -> Lot:
        """Put together leases that are to be renewed by one script; who renews the same ones again keeps it.

        ``more`` of each is :data:`NEW_FENCE` if it wants a new fence, and empty if not.

        Raises:
            ValueError: They are not of one owner and one partition, or not 1 to :data:`LARGEST_LOT`.
        """
        ...

    async def renew_many(
        self, lots: Sequence[Lot], *, timeout_s: float = 2.0
    ) -> Sequence[Sequence[Renewal | Exception]]:
        """Extend many leases in one request; the answers come in the order of the lots, and of each one's leases.

        Where Redis refuses one alone, a :class:`StoreError` is in its place. What nearly all answers say is
        :data:`RENEWED` itself.
        """
        ...

    async def readopt(self, owner: Owner, held: Held, *, timeout_s: float = 2.0) -> Readoption:
        """Put back a session that Redis forgot; what is there is left as it is."""
        ...

    async def release(self, owner: Owner, claim: Claim, reason: str, *, timeout_s: float = 2.0) -> Written:
        """Give a live session away; its last checkpoint stays."""
        ...

    async def fail(
        self, owner: Owner, claim: Claim, reason: str, backoff_s: float, *, timeout_s: float = 2.0
    ) -> Written:
        """Report that an attempt failed; the next is due after ``backoff_s``, unless it was the last."""
        ...

    async def checkpoint(
        self, owner: Owner, claim: Claim, number: int, value: bytes, *, timeout_s: float = 2.0
    ) -> Written:
        """Store a checkpoint, unless one with the same or a higher number is there."""
        ...

    async def publish(
        self, owner: Owner, claim: Claim, number: int, details: bytes, *, timeout_s: float = 2.0
    ) -> Written:
        """Store the details that ``GET /calls/{callId}`` shows, unless newer ones are there."""
        ...

    async def complete(self, owner: Owner, claim: Claim, *, timeout_s: float = 2.0) -> Written:
        """End the call; with a senior live sibling, yield to it instead."""
        ...

    # -- calls, by anyone -------------------------------------------------------------------

    async def cancel(self, call_id: str, reason: str, *, timeout_s: float = 2.0) -> bool:
        """End the live sessions that the call has now. False if the call is not known."""
        ...

    async def describe(self, call_id: str, *, timeout_s: float = 2.0) -> CallRecord | None:
        """Return the call, or None if it is not known."""
        ...

    async def calls(
        self, *, state: SessionState | None, cursor: str | None, limit: int, timeout_s: float = 2.0
    ) -> CallPage:
        """List calls in a stable order.

        Raises:
            ValueError: ``cursor`` is not one that a page gave.
        """
        ...

    async def history(self, call_id: str, *, timeout_s: float = 5.0) -> list[Event]:
        """Return the events of a call that the log still holds, oldest first."""
        ...

    async def pending(self, *, timeout_s: float = 2.0) -> int:
        """Count pending sessions of all partitions."""
        ...

    # -- instances --------------------------------------------------------------------------

    async def heartbeat(self, report: InstanceReport, *, timeout_s: float = 2.0) -> Beat:
        """Register or refresh an instance."""
        ...

    async def leave(self, instance_id: str, incarnation: int, reason: str, *, timeout_s: float = 2.0) -> bool:
        """Strike an instance off, unless a newer incarnation is there; True if it was."""
        ...

    async def instances(self, *, timeout_s: float = 2.0) -> list[InstanceRecord]:
        """Return all instances that are registered, the dead ones not yet struck off included."""
        ...

    # -- the watchdog -----------------------------------------------------------------------

    async def tick(
        self, *, limit: int = 200, partitions: Sequence[int] | None = None, timeout_s: float = 2.0
    ) -> list[PartitionView]:
        """Advance lease time in every partition, or in those that are named, and look at its indexes."""
        ...

    async def sweep(self, partition: int, refs: Sequence[SessionRef], *, timeout_s: float = 2.0) -> int:
        """Make pending what has an expired lease; returns how many were."""
        ...

    async def sweep_dead(
        self,
        instance_id: str,
        before_incarnation: int,
        reason: str,
        *,
        starting_at: int = 0,
        on_pending: Callable[[Sequence[int]], Awaitable[None]] | None = None,
        timeout_s: float = 5.0,
    ) -> int:
        """Make pending all that incarnations of an instance below ``before_incarnation`` own; part by part.

        The parts are of a few partitions each, and begin with the one numbered ``starting_at``. After each that made
        something pending ``on_pending`` is called, with its partitions. Each part has ``timeout_s``.
        """
        ...

    async def assign(
        self, partition: int, grants: Sequence[Grant], operation: str, *, timeout_s: float = 2.0
    ) -> list[AssignStatus]:
        """Give pending sessions to instances, which find the assignment in their inbox."""
        ...

    # -- events and messages ----------------------------------------------------------------

    async def tail(self, *, timeout_s: float = 2.0) -> EventPosition:
        """Return the position of the newest event."""
        ...

    async def position_of(self, event_id: str) -> EventPosition:
        """Return the position right behind an event.

        Raises:
            ValueError: ``event_id`` is not one that an event bore.
        """
        ...

    async def events(self, after: EventPosition, *, limit: int = 500, timeout_s: float = 2.0) -> EventBatch:
        """Return events behind a position, in order; an empty batch if there is none yet."""
        ...

    def inbox(self, instance_id: str) -> AsyncIterator[Assignments | Hint | Changed]:
        """Listen for messages to an instance, reconnecting for ever.

        ``Changed("resync")`` comes first and after each gap. Messages may be lost at any time.
        """
        ...

    def changes(self) -> AsyncIterator[Changed]:
        """Listen for hints that something changed; as :meth:`inbox`."""
        ...
