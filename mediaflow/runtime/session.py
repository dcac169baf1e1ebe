"""What a handler holds in its hands: one session of a call, and the word on whether it is still its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
import structlog

from mediaflow.core.tenure import EndReason

MAX_VALUE_BYTES = 64 * 1024
"""Bound on a checkpoint and on published details, encoded; both travel with each takeover."""


class LeaseLost(Exception):
    """The session's lease is over, or cannot be shown to hold: stop, and have no more effects."""


class Keeper(Protocol):
    """What a session needs of the actor that keeps its lease."""

    @property
    def fence(self) -> int:
        """The newest fence."""
        ...

    def lease_remaining_s(self) -> float:
        """Seconds until the owner must distrust its lease; not positive when it must, or when it is over."""
        ...

    async def write_checkpoint(self, value: bytes) -> None:
        """Store a checkpoint under the fence, trying until the lease is over (LeaseLost)."""
        ...

    async def write_details(self, value: bytes) -> None:
        """Store published details likewise."""
        ...


class Session:
    """One session of a call, as its handler sees it. It is made by the runtime, one for each start.

    Attributes:
        id: Session id; sorts by time of creation.
        call_id: The call that this session processes.
        instance_id: The instance that runs it.
        attempt: 1 for the first; grows when an attempt raised, not when an owner was lost.
        metadata: What ``POST /calls/{callId}`` was given, a JSON object.
        resume: The last checkpoint, of whichever owner; None if there is none.
        end_reason: Why the coroutine is being ended, None while it is not: ``completed``, ``failed``, ``lost``,
            ``yielded``, ``cancelled`` or ``drained``.
    """

    def __init__(
        self,
        keeper: Keeper,
        *,
        session_id: str,
        call_id: str,
        instance_id: str,
        attempt: int,
        metadata: dict[str, Any],
        resume: Any,
    ) -> None:
        """Made by the runtime only."""
        self._keeper = keeper
        self.id = session_id
        self.call_id = call_id
        self.instance_id = instance_id
        self.attempt = attempt
        self.metadata = metadata
        self.resume = resume
        self._is_draining = False
        self._draining: asyncio.Event | None = None
        self.end_reason: EndReason | None = None
        self._log: Any = None
        self._log_fence = 0

    @property
    def fence(self) -> int:
        """Fencing token: grows with every change of owner. Pass it to whatever you write to."""
        return self._keeper.fence

    @property
    def draining(self) -> asyncio.Event:
        """Set when the instance is about to give its sessions away."""
        if self._draining is None:
            self._draining = asyncio.Event()
            if self._is_draining:
                self._draining.set()
        return self._draining

    def announce_drain(self) -> None:
        """Set :attr:`draining`; for the runtime only."""
        self._is_draining = True
        if self._draining is not None:
            self._draining.set()

    @property
    def log(self) -> Any:
        """A structlog logger that names call, session, instance and fence; made when it is first used."""
        if self._log is None:
            self._log = structlog.get_logger("mediaflow.session").bind(
                call=self.call_id, session=self.id, instance=self.instance_id
            )
        if self._log_fence != self.fence:
            self._log_fence = self.fence
            self._log = self._log.bind(fence=self._log_fence)
        return self._log

    @log.setter
    def log(self, log: Any) -> None:
        """Log through another one from now on, such as one that names more."""
        self._log, self._log_fence = log, 0

    @property
    def lease_remaining_s(self) -> float:
        """Seconds for which the lease surely holds, by the local clock; 0 when it may be over."""
        return max(0.0, self._keeper.lease_remaining_s())

    @property
    def owned(self) -> bool:
        """Whether the lease surely holds, by the local clock alone; no I/O."""
        return self._keeper.lease_remaining_s() > 0

    def check(self) -> None:
        """Return if the lease surely holds, by the local clock alone; no I/O.

        Call it before each effect on the world. It cannot catch a pause between itself and the effect: pass
        :attr:`fence` along where the other side can compare it.

        Raises:
            LeaseLost: The lease is over, or Redis has not confirmed it for too long. Let it leave your coroutine:
                if the session turns out to be yours still, it is started again from the last checkpoint.
        """
        if not self.owned:
            raise LeaseLost(
                f"the lease of session {self.id} of call {self.call_id} is over, or cannot be shown to hold"
            )

    async def checkpoint(self, state: Any) -> None:
        """Store ``state`` as what the next owner resumes from; when it returns, Redis has it.

        Args:
            state: Anything that encodes as JSON, 64 KiB at most.

        Raises:
            LeaseLost: Another owner has the session, or Redis did not confirm until the lease was over; then
                the state may have been stored or not.
            ValueError: It is too large.
            TypeError: It does not encode as JSON.
        """
        await self._keeper.write_checkpoint(_encode(state, "checkpoint"))

    async def publish(self, **details: Any) -> None:
        """Show ``details`` in ``GET /calls/{callId}``, in place of what was published before.

        Raises:
            LeaseLost: As with :meth:`checkpoint`.
            ValueError: They are larger than 64 KiB, encoded as JSON.
            TypeError: They do not encode as JSON.
        """
        await self._keeper.write_details(_encode(details, "published details"))


Handler = Callable[[Session], Awaitable[None]]
"""What a user writes: a coroutine function that processes one session of a call."""


def _encode(value: Any, what: str) -> bytes:
    encoded = msgspec.json.encode(value)
    if len(encoded) > MAX_VALUE_BYTES:
        raise ValueError(
            f"{what} of {len(encoded)} bytes of JSON: at most {MAX_VALUE_BYTES} fit; store the bulk elsewhere and "
            "keep a reference to it here"
        )
    return encoded
