"""The sessions that an instance runs: one actor and one slot each."""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import structlog

from mediaflow.runtime.account import Accounts, Seat, seat_of
from mediaflow.runtime.actor import Actor
from mediaflow.runtime.registration import STORE_TIMEOUT_S, Registration
from mediaflow.runtime.slots import Slot
from mediaflow.runtime.surroundings import Surroundings
from mediaflow.store import Acceptance, Claim

log: Any = structlog.get_logger("mediaflow.instance")

END_PATIENCE_S = 1.0
"""How long ending a call waits for a coroutine that runs here."""


class Roll:
    """Actors by session id; each runs as a task of the instance's group and gives its slot back at its end."""

    def __init__(self, registration: Registration, around: Surroundings, accounts: Accounts) -> None:
        """Begin with no session; the owner is whoever ``registration`` says when one starts."""
        self.actors: dict[str, Actor] = {}
        self._registration = registration
        self._around = around
        self._accounts = accounts
        self._group: asyncio.TaskGroup | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False

    def open(self, group: asyncio.TaskGroup) -> None:
        """Run sessions from now on, as tasks of ``group``; none starts before."""
        self._group = group

    def __contains__(self, session_id: str) -> bool:
        """Whether a session runs here."""
        return session_id in self.actors

    def start(
        self, claim: Claim, kept: Acceptance, sent_at_s: float, slot: Slot, *, is_fresh: bool = False
    ) -> bool:
        """Start the actor of a session; False if it cannot run, or runs here already, and the slot is not taken.

        Args:
            claim: Under which it is held.
            kept: What Redis holds of it.
            sent_at_s: When the request was sent that made it ours.
            slot: Reserved for it.
            is_fresh: This very process has just made it.
        """
        if self._group is None or self._registration.state == "stopped" or claim.session_id in self.actors:
            return False
        if (owner := self._registration.owner) is not self._around.owner:
            self._around = self._around._replace(owner=owner)
        actor = Actor(self._around, claim, kept, sent_at_s)
        self.actors[claim.session_id] = actor
        self._empty.clear()
        self._group.create_task(self._act(actor, slot), name=f"session {claim.session_id}")
        if self._draining:
            # It was asked for before the drain began, and is given away like the others.
            actor.drain()
        if seat := seat_of(kept.account):
            self._accounts.keep(self._group, seat, actor, partial(self.end, claim.call_id), is_fresh=is_fresh)
        return True

    def keep_waiting(self, seat: Seat, call_id: str, session_id: str) -> None:
        """Keep the place of a session that is pending, until somebody runs it."""
        if self._group is not None:
            self._accounts.keep_waiting(self._group, seat, call_id, session_id, partial(self.end, call_id))

    def states(self) -> Counter[str]:
        """Count the sessions by how their coroutines are; see :attr:`Actor.state`."""
        return Counter(actor.state for actor in self.actors.values())

    def ask_now(self, session_id: str | None = None) -> None:
        """Have one session renewed at once, or all."""
        for actor in list(self.actors.values()) if session_id is None else [self.actors[session_id]]:
            actor.ask_now()

    async def end(self, call_id: str, reason: str) -> bool:
        """End a call, wherever it runs; see :meth:`Instance.end`."""
        known = await self._around.store.cancel(call_id, reason, timeout_s=STORE_TIMEOUT_S)
        await self._see_end(call_id)
        return known

    async def _see_end(self, call_id: str) -> None:
        """Have the sessions of an ended call renewed at once, and wait a while for them to end of it."""
        ending = [actor for actor in self.actors.values() if actor.call_id == call_id]
        for actor in ending:
            actor.ask_now()
        try:
            async with asyncio.timeout(END_PATIENCE_S):
                for actor in ending:
                    await actor.over.wait()
        except TimeoutError:
            return

    async def drain(self, patience_s: float) -> None:
        """Give all sessions away, after waiting up to ``patience_s`` for them to end.

        Returns when none is left, and those that ended have freed their places.
        """
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
        await self._accounts.settle()

    async def _act(self, actor: Actor, slot: Slot) -> None:
        try:
            await actor.run()
        except Exception:
            # A fault of ours in one session must not end the others; its lease lapses and another takes it over.
            log.exception("session.actor_failed", call=actor.call_id, session=actor.session_id)
        finally:
            del self.actors[actor.session_id]
            slot.free()
            actor.leave()
            if not self.actors:
                self._empty.set()
