"""Handlers in a simulated run: anybody's, watched; and a repertoire of our own that writes, ends, raises and hangs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mediaflow.runtime.session import Handler, LeaseLost, Session
from mediaflow.testing.history import Effect, Started, Stopped

if TYPE_CHECKING:
    from mediaflow.testing.processes import Host
    from mediaflow.testing.recorder import Recorder

STEP_S = 1.0
EAGER_STEP_S = 0.2


class Watched:
    """A handler of one process, whose starts and ends the history is told; ``running``: its sessions."""

    def __init__(self, handler: Handler, recorder: "Recorder", host: "Host") -> None:
        """Watch a handler on one instance."""
        self._handler = handler
        self._recorder = recorder
        self._host = host
        self.running: list[Session] = []

    async def __call__(self, session: Session) -> None:
        """Process a session."""
        incarnation = self._host.instance.incarnation
        self.running.append(session)
        self._recorder.add(
            Started(
                at_s=self._recorder.now_s(),
                call_id=session.call_id,
                session_id=session.id,
                instance_id=session.instance_id,
                incarnation=incarnation,
                fence=session.fence,
                attempt=session.attempt,
                resumed=self._recorder.number_of(session.id, session.resume),
            )
        )
        reason = "returned"
        try:
            await self._handler(session)
        except asyncio.CancelledError:
            reason = session.end_reason or "cancelled"
            raise
        except LeaseLost:
            reason = "lease lost"
            raise
        except Exception:
            reason = "raised"
            raise
        finally:
            self.running.remove(session)
            self._recorder.add(
                Stopped(
                    at_s=self._recorder.now_s(),
                    call_id=session.call_id,
                    session_id=session.id,
                    instance_id=session.instance_id,
                    incarnation=incarnation,
                    reason=reason,
                )
            )


class Repertoire:
    """A handler that does what the call's metadata says: ``{"does": "steady"}``."""

    def __init__(self, recorder: "Recorder") -> None:
        """Tell the history of effects."""
        self._recorder = recorder

    async def __call__(self, session: Session) -> None:
        """Process a session as its metadata says."""
        does: Callable[[Session, int], Awaitable[None]] = getattr(self, f"_{session.metadata['does']}")
        await does(session, session.resume["n"] if session.resume else 0)

    def _affect(self, session: Session) -> None:
        session.check()
        self._recorder.add(
            Effect(
                at_s=self._recorder.now_s(),
                call_id=session.call_id,
                session_id=session.id,
                instance_id=session.instance_id,
                fence=session.fence,
                checked=True,
            )
        )

    async def _steady(self, session: Session, count: int) -> None:
        while True:
            self._affect(session)
            count += 1
            await session.checkpoint({"n": count})
            await asyncio.sleep(STEP_S)

    async def _eager(self, session: Session, count: int) -> None:
        """Have effects as long as the lease is said to be ours, and wait for nobody in between."""
        del count
        while True:
            self._affect(session)
            await asyncio.sleep(EAGER_STEP_S)

    async def _brief(self, session: Session, count: int) -> None:
        while count < session.metadata["steps"]:
            self._affect(session)
            count += 1
            await session.checkpoint({"n": count})
            await asyncio.sleep(STEP_S)

    async def _raises(self, session: Session, count: int) -> None:
        await session.checkpoint({"n": count + 1})
        await asyncio.sleep(STEP_S)
        if session.attempt < session.metadata["succeeds_at"]:
            raise RuntimeError("a handler that fails")

    async def _silent(self, session: Session, count: int) -> None:
        del session, count
        await asyncio.Event().wait()

    async def _stubborn(self, session: Session, count: int) -> None:
        """Work like any other, and take its time when it is told to stop."""
        try:
            await self._steady(session, count)
        finally:
            await asyncio.sleep(session.metadata["stops_after_s"])
