"""The coroutine of one session, as it runs here: started, cancelled, waited for, and given up on if it will not stop.

Not guaranteed: that a coroutine is gone when its lease is. One that ignores its cancellation runs on, and only the
fence keeps its writes out.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from mediaflow.core import tenure as core
from mediaflow.runtime.clock import Clock
from mediaflow.runtime.logbook import Logbook
from mediaflow.runtime.session import Handler, Keeper, LeaseLost, Session
from mediaflow.store import Acceptance, Claim
from mediaflow.telemetry import lag, tracing

log: Any = structlog.get_logger("mediaflow.actor")

STOP_PATIENCE_S = 10.0
"""How long a cancelled coroutine may take before it is given up on; its writes are fenced off by then."""


class Run:
    """Runs a handler for one session: one coroutine at a time, and a new :class:`Session` for each start.

    Attributes:
        patience_ends_s: When a coroutine that was cancelled is given up on, None if none was.
    """

    def __init__(
        self,
        handler: Handler,
        claim: Claim,
        clock: Clock,
        logbook: Logbook,
        on_left: Callable[[object], None],
    ) -> None:
        """``on_left`` is called with its task whenever the coroutine has left, however it did."""
        self._handler = handler
        self._claim = claim
        self._clock = clock
        self._logbook = logbook
        self._on_left = on_left
        self._attempt = 0
        self._session: Session | None = None
        self._coroutine: asyncio.Task[None] | None = None
        self._left_at_s: float | None = None
        self._draining = False
        self.patience_ends_s: float | None = None

    def start(self, keeper: Keeper, instance_id: str, kept: Acceptance) -> None:
        """Start the coroutine, from what Redis holds of its session; none runs yet."""
        self._attempt = kept.attempt
        session = self._session = Session(
            keeper,
            session_id=self._claim.session_id,
            call_id=self._claim.call_id,
            instance_id=instance_id,
            attempt=kept.attempt,
            metadata=msgspec.json.decode(kept.metadata),
            resume=None if kept.checkpoint is None else msgspec.json.decode(kept.checkpoint),
        )
        if self._draining:
            session.announce_drain()
        started = None
        if tracing.has_use_for(kept.trace):
            started = tracing.begin("session start", "consumer", _attributes(session, kept.cause), kept.trace)
        self._coroutine = asyncio.get_running_loop().create_task(self._invoke(session, started))
        self._coroutine.add_done_callback(self._on_left)

    def announce_drain(self) -> None:
        """Tell the coroutine, and those to come, that the instance is about to give its sessions away."""
        self._draining = True
        if self._session is not None:
            self._session.announce_drain()

    def tell_end(self, reason: core.EndReason) -> None:
        """Tell the coroutine why it is being ended."""
        if self._session is not None:
            self._session.end_reason = reason

    def idle_s(self, now_s: float) -> float:
        """Return for how long no coroutine has run; 0 if one does, or none has left yet."""
        return 0.0 if self._left_at_s is None or self._coroutine else now_s - self._left_at_s

    def look(self) -> core.Event | None:
        """Return how the coroutine left, if it has since the last look; one that will not stop is given up on."""
        task, now_s = self._coroutine, self._clock.monotonic_s()
        if task is None:
            return None
        if not task.done():
            if self.patience_ends_s is None or now_s < self.patience_ends_s:
                return None
            self._abandon(task)
            return core.LeaseOver()
        stopped_by_us, self._coroutine, self.patience_ends_s = self.patience_ends_s is not None, None, None
        self._left_at_s = now_s
        if task.cancelled():
            return core.LeaseOver() if stopped_by_us else core.Raised("the coroutine cancelled itself")
        error = task.exception()
        if error is None:
            return core.Returned()
        if isinstance(error, LeaseLost):
            return core.LeaseOver()
        self._report(error)
        return core.Raised(_in_words(error))

    def cancel(self) -> None:
        """Cancel the coroutine, and do not wait for it."""
        if self._coroutine is not None and not self._coroutine.done():
            self._coroutine.cancel()
            self.patience_ends_s = self._clock.monotonic_s() + STOP_PATIENCE_S

    async def see_it_stop(self) -> None:
        """Cancel the coroutine and wait until it is gone, or for as long as patience goes."""
        task, self.patience_ends_s = self._coroutine, None
        if task is not None:
            await self._see_stop(task)
        # It knows its keeper, who knows us: left to the garbage collector, they were its work for the most part.
        self._session = None

    async def _see_stop(self, task: asyncio.Task[None]) -> None:
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=STOP_PATIENCE_S)
        if not task.done():
            self._abandon(task)
            return
        self._coroutine = None
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, LeaseLost):
            self._report(error)

    def _abandon(self, task: asyncio.Task[None]) -> None:
        """Give up on a coroutine that ignores its cancellation; the fence keeps its writes out."""
        log.error("session.coroutine_will_not_stop", **self._names())
        self._logbook.stuck()
        self._coroutine, self.patience_ends_s = None, None
        _abandoned.add(task)
        task.add_done_callback(_abandoned.discard)

    def _report(self, error: BaseException) -> None:
        log.warning(
            "session.attempt_failed",
            **self._names(),
            attempt=self._attempt,
            error=repr(error),
            exc_info=error,
        )

    def _names(self) -> dict[str, str]:
        return {"call": self._claim.call_id, "session": self._claim.session_id}

    async def _invoke(self, session: Session, started: tracing.Spanned | None) -> None:
        # The lease may be over by now: the acceptance took too long, or the process stood still until this first
        # step. It is confirmed first then, and what may be another's is not started.
        session.check()
        facts = {**self._names(), "instance": session.instance_id}
        lag.doing(lag.Work(_name_of(self._handler), facts))
        self._logbook.started(session.fence, self._clock.monotonic_s())
        if started is not None:
            started.handled()
        try:
            await self._handler(session)
        except SystemExit as error:
            # It would end the process, and with it the sessions of everybody else.
            raise RuntimeError(f"the coroutine called sys.exit({error.code!r})") from error


_abandoned: set[asyncio.Task[None]] = set()
"""Keeps a reference to tasks that nobody waits for any more: the event loop itself has only weak ones."""


def _attributes(session: Session, cause: str) -> dict[str, str | int]:
    return {
        "call.id": session.call_id,
        "session.id": session.id,
        "instance.id": session.instance_id,
        "mediaflow.fence": session.fence,
        "mediaflow.attempt": session.attempt,
        "mediaflow.cause": cause,
    }


def _in_words(error: BaseException) -> str:
    """Return what an exception of a handler says, fit to be stored: its text may fail, or hold half characters."""
    try:
        words = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - whatever the user's __str__ raises
        words = type(error).__name__
    return words.encode(errors="backslashreplace").decode().removesuffix(": ")[:200]


def _name_of(handler: Handler) -> str:
    named = handler if hasattr(handler, "__qualname__") else type(handler)
    return f"{named.__module__}.{getattr(named, '__qualname__', '')}"
