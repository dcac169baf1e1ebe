"""The actor of one session: runs its coroutine and keeps its lease, for as long as the session is ours.

All decisions are :mod:`mediaflow.core.tenure`'s; this shell asks the store, has the coroutine started and stopped,
and takes in what comes of it. One task, woken by a timer or by an event.
"""

import asyncio
import random
from typing import Any, NamedTuple

import structlog

from mediaflow.core import tenure as core
from mediaflow.runtime.clock import Clock
from mediaflow.runtime.logbook import Logbook
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.record import Record
from mediaflow.runtime.run import Run
from mediaflow.runtime.session import Handler, LeaseLost
from mediaflow.store import (
    Acceptance,
    Claim,
    Owner,
    Renewal,
    Store,
    StoreError,
    StoreUnavailable,
    Written,
)

log: Any = structlog.get_logger("mediaflow.actor")

WRITE_TIMEOUT_S = 2.0
RENEWALS_GATHER_IN = 40
"""A renewal may wait this part of the lease for others to go out with: thousands of sessions share a request."""


class Surroundings(NamedTuple):
    """What all actors of an instance share."""

    store: Store
    owner: Owner
    handler: Handler
    rules: core.Rules
    clock: Clock
    random: random.Random
    meter: InstanceMeter


class Actor:
    """Owner's side of one session; also the :class:`~mediaflow.runtime.session.Keeper` of its sessions."""

    def __init__(self, around: Surroundings, claim: Claim, accepted: Acceptance, sent_at_s: float) -> None:
        """Take over a session that was accepted by a request sent at ``sent_at_s``."""
        self._around = around
        self.call_id, self.session_id, _ = claim
        self._record = Record(accepted)
        self._logbook = Logbook(around.meter, around.owner.instance_id, claim, accepted, sent_at_s)
        self._tenure = core.begin(sent_at_s, accepted.fence, around.rules, around.random.random())
        self._generation = around.store.generation
        self._wake = asyncio.Event()
        self._run = Run(around.handler, claim, around.clock, self._logbook, self._wake.set)
        self._effects: list[core.Effect] = []
        self._news = asyncio.Event()
        self._in_haste = False
        self._was_last_attempt = False
        self.over = asyncio.Event()

    # -- for the instance -------------------------------------------------------------------

    @property
    def claim(self) -> Claim:
        """What this owner believes to hold."""
        return Claim(self.call_id, self.session_id, self._tenure.fence)

    @property
    def end(self) -> core.EndReason | None:
        """How it ended, None while it goes on."""
        return self._tenure.end

    @property
    def state(self) -> str:
        """``running``; ``stopped``: whether the lease is ours is being asked; ``ending``: it is being given up."""
        if self._tenure.intent != "hold" or self._tenure.end is not None:
            return "ending"
        return "running" if self._tenure.coroutine == "running" else "stopped"

    @property
    def ended_call(self) -> bool:
        """Whether nobody will go on with the session: it ended for good, and not merely for this owner."""
        return self.end in ("completed", "cancelled") or (self.end == "failed" and self._was_last_attempt)

    def ask_now(self) -> None:
        """Renew at once: something is said to have happened to the session."""
        self._in_haste = True
        self._take(core.Asked())
        self._wake.set()

    def announce_drain(self) -> None:
        """Tell the coroutine that the instance is about to give its sessions away."""
        self._run.announce_drain()

    def drain(self) -> None:
        """Give the session away now."""
        self.announce_drain()
        if self._tenure.intent == "hold":
            self._run.tell_end("drained")
        self._take(core.DrainNow())
        self._wake.set()

    async def run(self) -> core.EndReason:
        """Run the coroutine and keep the lease until it is over for this owner; returns how it ended."""
        try:
            if self.lease_remaining_s() > 0:
                self._start()
            else:
                # The acceptance took too long: it is confirmed first, and starts nothing yet.
                self._take(core.LeaseOver())
            while self._tenure.end is None:
                await self._pause()
                await self._turn()
            return self._tenure.end
        finally:
            self._news.set()
            if self._tenure.end is not None:
                self._logbook.ended(self._tenure.end, self._tenure.fence)
                self._run.tell_end(self._tenure.end)
            await self._run.see_it_stop()

    # -- for the session (Keeper) -------------------------------------------------------------

    @property
    def fence(self) -> int:
        """The newest fence."""
        return self._tenure.fence

    def lease_remaining_s(self) -> float:
        """Seconds until the lease must be distrusted; not positive once it is over for this owner."""
        if self._tenure.end is not None:
            return 0.0
        return self._tenure.stop_at_s - self._around.clock.monotonic_s()

    async def write_checkpoint(self, value: bytes) -> None:
        """Store a checkpoint under the fence; see :meth:`Session.checkpoint`."""
        number = self._record.next_checkpoint()
        await self._write("checkpoint", number, value)
        self._record.keep_checkpoint(number, value)

    async def write_details(self, value: bytes) -> None:
        """Store published details under the fence; see :meth:`Session.publish`."""
        await self._write("publish", self._record.next_details(self._tenure.fence), value)
        self._record.keep_details(value)

    async def _write(self, kind: str, number: int, value: bytes) -> None:
        store = self._around.store
        write = store.checkpoint if kind == "checkpoint" else store.publish
        while True:
            left_s = self.lease_remaining_s()
            if left_s <= 0:
                raise LeaseLost(
                    f"the lease of session {self.session_id} was over before its {kind} was stored"
                )
            try:
                written = await write(
                    self._around.owner, self.claim, number, value, timeout_s=min(left_s, WRITE_TIMEOUT_S)
                )
            except StoreUnavailable:
                continue
            if written.status == "written":
                return
            if written.status == "refenced":
                self._take(core.Refenced(written.fence))
                continue
            self.ask_now()
            if written.status == "lost":
                raise LeaseLost(
                    f"session {self.session_id} of call {self.call_id} is another owner's, or has ended"
                )
            # Redis forgot the session, or has an older record: the renewal that was just asked for mends it.
            await self._until_confirmed()

    async def _until_confirmed(self) -> None:
        """Wait for the next word of Redis on this session, for as long as the lease surely holds."""
        try:
            async with asyncio.timeout(max(0.0, self.lease_remaining_s())):
                await self._news.wait()
        except TimeoutError:
            return

    # -- the turns --------------------------------------------------------------------------

    def _take(self, event: core.Event) -> None:
        """Take in an event; what it does to the coroutine is carried out by the next turn."""
        fence = self._tenure.fence
        self._tenure, effects = core.step(
            self._tenure, event, self._around.clock.monotonic_s(), self._around.rules
        )
        self._effects.extend(effects)
        if self._tenure.fence != fence:
            self._logbook.refenced(self._tenure.fence)
            self._run.refenced(self._tenure.fence)
        if isinstance(event, core.Confirmed | core.Ended):
            # Whoever waits for news has this event; who waits from now on waits for the next.
            self._news.set()
            self._news = asyncio.Event()

    async def _pause(self) -> None:
        """Wait until there is something to do: an event, or a deadline."""
        wait_s = self._next_look_s() - self._around.clock.monotonic_s()
        if wait_s > 0 and not self._wake.is_set():
            timer = asyncio.get_running_loop().call_later(wait_s, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()
        self._wake.clear()

    def _next_look_s(self) -> float:
        agenda = core.agenda(self._tenure)
        if self._run.patience_ends_s is not None:
            return min(agenda.at_s, self._run.patience_ends_s)
        if self._around.rules.stop_when_cut_off and self._tenure.coroutine == "running":
            return min(agenda.at_s, agenda.look_at_s)
        return agenda.at_s

    async def _turn(self) -> None:
        """Look at the coroutine and the clock, then ask the store what is due."""
        if (left := self._run.look()) is not None:
            self._take(left)
        if self._server_changed():
            self._generation = self._around.store.generation
            self._record.server_changed()
            self._take(core.ServerChanged())
        self._take(core.Tick())
        await self._carry_out()
        now_s = self._around.clock.monotonic_s()
        agenda = core.agenda(self._tenure)
        if self._tenure.end is None and agenda.at_s <= now_s:
            if agenda.request == "renew":
                self._logbook.renewal_sent(now_s - agenda.at_s)
            await self._ask(agenda.request, now_s)
            await self._carry_out()

    async def _carry_out(self) -> None:
        effects, self._effects = self._effects, []
        for effect in effects:
            if effect == "stop":
                self._run.cancel()
            elif self._tenure.coroutine == "running":
                await self._restart()

    async def _ask(self, request: core.Request, sent_at_s: float) -> None:
        store, owner = self._around.store, self._around.owner
        fence = self._tenure.fence
        try:
            async with asyncio.timeout(self._patience_with_store_s(sent_at_s)):
                match request:
                    case "renew":
                        new_fence = self._tenure.new_fence
                        in_haste, self._in_haste = self._in_haste or new_fence, False
                        wait_s = 0.0 if in_haste else self._around.rules.ttl_s / RENEWALS_GATHER_IN
                        renewal = await store.renew(owner, self.claim, new_fence=new_fence, wait_s=wait_s)
                        self._note_renewal(renewal, sent_at_s, asked=in_haste)
                        heard = self._heard(renewal.status, renewal.fence or fence, sent_at_s)
                        if isinstance(heard, core.Confirmed) and not new_fence and self._server_changed():
                            return  # it may have lost who came after us: the next turn asks it for a new fence
                        self._take(heard)
                        await self._save_again()
                    case "readopt":
                        again = await store.readopt(owner, self._record.held(self.claim))
                        self._logbook.readopted(again.status, again.fence)
                        self._take(self._heard(again.status, again.fence, sent_at_s))
                    case "complete":
                        self._take_written(await store.complete(owner, self.claim), "completed")
                    case "fail":
                        backoff_s = core.backoff_s(self._record.kept.attempt)
                        written = await store.fail(owner, self.claim, self._tenure.reason, backoff_s)
                        self._logbook.failed(self._tenure.reason, written.status)
                        self._take_written(written, "failed")
                    case "release":
                        self._take_written(await store.release(owner, self.claim, "drained"), "drained")
        except (StoreUnavailable, TimeoutError):
            self._logbook.without_answer(request, rejected=False)
            self._take(core.Silence())
        except StoreError:
            self._logbook.without_answer(request, rejected=True)
            # Redis refuses this session alone: a damaged record. It may be mended before the lease is over.
            if self._tenure.retry_at_s <= self._tenure.confirmed_at_s:
                log.exception("session.store_refused", call=self.call_id, session=self.session_id)
            self._take(core.Silence())

    def _note_renewal(self, renewal: Renewal, sent_at_s: float, *, asked: bool) -> None:
        now_s = self._around.clock.monotonic_s()
        self._logbook.renewed(renewal, now_s - sent_at_s, self._tenure.stop_at_s - now_s, asked=asked)
        if renewal.overlap_ms is not None:
            self._logbook.overlapped(renewal.overlap_ms / 1000 - self._run.idle_s(now_s))

    def _server_changed(self) -> bool:
        return self._around.store.generation != self._generation

    async def _save_again(self) -> None:
        """Store the last checkpoint anew where the server may be one that lost it; one that it has is not touched."""
        if not self._record.is_at_risk or self._tenure.end is not None or self._tenure.forgotten:
            return
        kept = self._record.kept
        written = await self._around.store.checkpoint(
            self._around.owner, self.claim, kept.checkpoint_number, kept.checkpoint or b"null"
        )
        self._record.is_at_risk = written.status == "refenced"

    def _patience_with_store_s(self, now_s: float) -> float | None:
        """Return how long an answer may be waited for: a coroutine that has to be stopped in time bounds it."""
        if self._around.rules.stop_when_cut_off and self._tenure.coroutine == "running":
            return max(0.0, self._tenure.stop_at_s - now_s)
        return None

    def _heard(self, status: str, fence: int, sent_at_s: float) -> core.Event:
        match status:
            case "renewed" | "refenced" | "readopted":
                return core.Confirmed(sent_at_s, fence, self._around.random.random())
            case "yielded":
                return core.Ended("yielded")
            case "cancelled":
                return core.Ended("cancelled")
            case "unknown":
                return core.Forgotten()
            case "there":
                return core.There(fence)
            case _:
                return core.Ended("lost")

    def _take_written(self, written: Written, end: core.EndReason) -> None:
        self._was_last_attempt = written.status == "failed"
        match written.status:
            case "written" | "failed":
                self._take(core.Ended(end))
            case "yielded":
                self._logbook.gave_way(written.winner)
                self._take(core.Ended("yielded"))
            case "lost":
                self._take(core.Ended("lost"))
            case "refenced":
                self._take(core.Refenced(written.fence))
            case "unknown":
                self._take(core.Forgotten())

    # -- the coroutine ------------------------------------------------------------------------

    def _start(self) -> None:
        self._run.start(self, self._around.owner.instance_id, self._record.kept)

    async def _restart(self) -> None:
        """Start the coroutine again here, from what Redis holds as its last checkpoint."""
        await self._run.see_it_stop()
        try:
            kept = await self._around.store.accept(self._around.owner, self.claim)
        except StoreUnavailable:
            kept = Acceptance(status="lost")
        if kept.status != "accepted":
            # Not now: the next renewal says what became of it.
            self._take(core.LeaseOver())
            return
        self._record.accept(kept)
        self._start()
