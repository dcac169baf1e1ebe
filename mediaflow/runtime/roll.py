"""The sessions that an instance runs: one actor and one slot each."""

import asyncio
from collections import Counter
from typing import Any

import structlog

from mediaflow.runtime.actor import Actor, Surroundings
from mediaflow.runtime.slots import Slot
from mediaflow.store import Acceptance, Claim

log: Any = structlog.get_logger("mediaflow.instance")


class Roll:
    """Actors by session id; each runs as a task of the instance's group and gives its slot back at its end."""

    def __init__(self) -> None:
        """Begin with no session."""
        self.actors: dict[str, Actor] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False

    def __contains__(self, session_id: str) -> bool:
        """Whether a session runs here."""
        return session_id in self.actors

    def start(
        self,
        group: asyncio.TaskGroup,
        around: Surroundings,
        claim: Claim,
        accepted: Acceptance,
        sent_at_s: float,
        slot: Slot,
    ) -> bool:
        """Start the actor of a session; False if it runs here already, and the slot is not taken."""
        if claim.session_id in self.actors:
            return False
        actor = Actor(around, claim, accepted, sent_at_s)
        self.actors[claim.session_id] = actor
        self._empty.clear()
        group.create_task(self._act(actor, slot), name=f"session {claim.session_id}")
        if self._draining:
            # It was asked for before the drain began, and is given away like the others.
            actor.drain()
        return True

    def states(self) -> Counter[str]:
        """Count the sessions by how their coroutines are; see :attr:`Actor.state`."""
        return Counter(actor.state for actor in self.actors.values())

    def ask_now(self, session_id: str | None = None) -> None:
        """Have one session renewed at once, or all."""
        for actor in list(self.actors.values()) if session_id is None else [self.actors[session_id]]:
            actor.ask_now()

    async def ask_about(self, call_id: str, patience_s: float) -> None:
        """Have the sessions of an ended call renewed at once, and wait a while for them to end of it."""
        ending = [actor for actor in self.actors.values() if actor.call_id == call_id]
        for actor in ending:
            actor.ask_now()
        try:
            async with asyncio.timeout(patience_s):
                for actor in ending:
                    await actor.over.wait()
        except TimeoutError:
            return

    async def drain(self, patience_s: float) -> None:
        """Give all sessions away, after waiting up to ``patience_s`` for them to end; return when none is left."""
        for actor in self.actors.values():
            actor.announce_drain()
        if patience_s > 0:
            try:
                async with asyncio.timeout(patience_s):
                    await self._empty.wait()
            except TimeoutError:
                log.info("instance.drain_timeout", left=len(self.actors))
        self._draining = True
        for actor in list(self.actors.values()):
            actor.drain()
        await self._empty.wait()

    async def _act(self, actor: Actor, slot: Slot) -> None:
        try:
            await actor.run()
        except Exception:
            # A fault of ours in one session must not end the others; its lease lapses and another takes it over.
            log.exception("session.actor_failed", call=actor.call_id, session=actor.session_id)
        finally:
            del self.actors[actor.session_id]
            actor.over.set()
            slot.free()
            if not self.actors:
                self._empty.set()
