"""The actor of one session: runs its coroutine and keeps its lease, for as long as the session is ours.

All decisions are :mod:`mediaflow.core.tenure`'s; this shell asks the store, has the coroutine started and stopped,
and takes in what comes of it. One task, woken by a timer or by an event, and not for mere renewals: those are the
:class:`~mediaflow.runtime.leasehold.Leasehold`'s.
"""

import asyncio
from contextlib import nullcontext

from mediaflow.core import tenure as core
from mediaflow.runtime.bell import Bell
from mediaflow.runtime.leasehold import Leasehold
from mediaflow.runtime.logbook import Logbook
from mediaflow.runtime.run import Run
from mediaflow.runtime.session import LeaseLost
from mediaflow.runtime.surroundings import Surroundings
from mediaflow.store import Acceptance, Claim, StoreError, StoreUnavailable, Written

WRITE_TIMEOUT_S = 2.0


class Actor:
    """Owner's side of one session; also the :class:`~mediaflow.runtime.session.Keeper` of its sessions."""

    def __init__(self, around: Surroundings, claim: Claim, accepted: Acceptance, sent_at_s: float) -> None:
        """Take over a session that was accepted by a request sent at ``sent_at_s``."""
        self._around = around
        self.call_id, self.session_id, _ = claim
        self._wake = Bell()
        self._logbook = Logbook(around.meter, around.owner.instance_id, claim, accepted, sent_at_s)
        self._run = Run(around.handler, claim, around.clock, self._logbook, self._wake.ring)
        self._lease = Leasehold(around, claim, accepted, sent_at_s, self._logbook, self._run, self._wake)
        self._was_last_attempt = False
        self._is_over = False
        self._over: asyncio.Event | None = None

    # -- for the instance -------------------------------------------------------------------

    @property
    def end(self) -> core.EndReason | None:
        """How it ended, None while it goes on."""
        return self._tenure.end

    @property
    def over(self) -> asyncio.Event:
        """Set when nothing of it runs here any more, and its slot is free; made for who waits for that."""
        if self._over is None:
            self._over = asyncio.Event()
            if self._is_over:
                self._over.set()
        return self._over

    def leave(self) -> None:
        """Have it be over."""
        self._is_over = True
        if self._over is not None:
            self._over.set()

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
        self._lease.ask_now()

    def announce_drain(self) -> None:
        """Tell the coroutine that the instance is about to give its sessions away."""
        self._run.announce_drain()

    def drain(self) -> None:
        """Give the session away now."""
        self.announce_drain()
        if self._tenure.intent == "hold":
            self._run.tell_end("drained")
        self._take(core.DrainNow())
        self._wake.ring()

    async def run(self) -> core.EndReason:
        """Run the coroutine and keep the lease until it is over for this owner; returns how it ended."""
        try:
            self._start()
            while self._tenure.end is None:
                await self._pause()
                await self._turn()
            return self._tenure.end
        finally:
            self._lease.close()
            if self._tenure.end is not None:
                self._logbook.ended(self._tenure.end, self._tenure.fence)
            await self._run.see_it_stop()

    # -- for the session (Keeper) -------------------------------------------------------------

    @property
    def fence(self) -> int:
        """The newest fence."""
        return self._tenure.fence

    def lease_remaining_s(self) -> float:
        """Seconds until the lease must be distrusted; not positive once it is over for this owner."""
        return self._lease.remaining_s()

    async def write_checkpoint(self, value: bytes) -> None:
        """Store a checkpoint under the fence; see :meth:`Session.checkpoint`."""
        number = self._lease.record.next_checkpoint()
        await self._write("checkpoint", number, value)
        self._lease.record.keep_checkpoint(number, value)

    async def write_details(self, value: bytes) -> None:
        """Store published details under the fence; see :meth:`Session.publish`."""
        await self._write("publish", self._lease.record.next_details(self._tenure.fence), value)
        self._lease.record.keep_details(value)

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
                    self._around.owner,
                    self._lease.claim,
                    number,
                    value,
                    timeout_s=min(left_s, WRITE_TIMEOUT_S),
                )
            except StoreUnavailable:
                continue
            if written.status == "written":
                return
            if written.status == "refenced":
                self._take(core.Refenced(written.fence))
                continue
            # If Redis forgot the session, or has an older record, the renewal mends it; else it says how it was
            # lost, so that whoever cleans up can tell a yield from a takeover.
            self.ask_now()
            await self._lease.next_news()
            if written.status == "lost":
                raise LeaseLost(
                    f"session {self.session_id} of call {self.call_id} is another owner's, or has ended"
                )

    # -- the turns --------------------------------------------------------------------------

    @property
    def _tenure(self) -> core.Tenure:
        return self._lease.tenure

    def _take(self, event: core.Event) -> None:
        self._lease.take(event)

    async def _pause(self) -> None:
        """Wait until there is something to do but renewals: an event, or a deadline."""
        self._lease.end_turn()
        if not self._wake.rung:
            alarms = [at_s for at_s in (self._lease.alarm_s(), self._run.patience_ends_s) if at_s is not None]
            timer = None
            if alarms:
                wait_s = max(0.0, min(alarms) - self._around.clock.monotonic_s())
                timer = asyncio.get_running_loop().call_later(wait_s, self._wake.ring)
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        await self._lease.begin_turn()
        self._wake.rung = False

    async def _turn(self) -> None:
        """Look at the coroutine and the clock, then ask the store what is due, renewals excepted."""
        if self._lease.fault is not None:
            raise self._lease.fault
        if (left := self._run.look()) is not None:
            self._take(left)
        self._lease.look_at_server()
        if self._lease.remaining_s() <= 0:
            self._take(core.Tick())  # before, it changes nothing
        if self._lease.effects:
            await self._carry_out()
        now_s = self._around.clock.monotonic_s()
        tenure = self._tenure
        agenda = core.agenda(tenure)
        if tenure.end is not None:
            return
        if agenda.request != "renew" and agenda.at_s <= now_s:
            await self._ask(agenda.request, now_s)
        elif self._lease.must_save:
            await self._save_again()
        if self._lease.effects:
            await self._carry_out()

    async def _carry_out(self) -> None:
        effects, self._lease.effects = self._lease.effects, []
        for effect in effects:
            if effect == "stop":
                self._run.cancel()
            elif self._tenure.coroutine == "running":
                await self._restart()

    async def _ask(self, request: core.Request, sent_at_s: float) -> None:
        store, owner, claim = self._around.store, self._around.owner, self._lease.claim
        record = self._lease.record
        patience_s = self._lease.patience_s(sent_at_s)
        try:
            async with nullcontext() if patience_s is None else asyncio.timeout(patience_s):
                match request:
                    case "readopt":
                        again = await store.readopt(owner, record.held(claim))
                        self._logbook.readopted(again.status, again.fence)
                        self._take(self._lease.heard(again.status, again.fence, sent_at_s))
                    case "complete":
                        self._take_written(await store.complete(owner, claim), "completed")
                    case "fail":
                        backoff_s = core.backoff_s(record.kept.attempt)
                        written = await store.fail(owner, claim, self._tenure.reason, backoff_s)
                        self._logbook.failed(self._tenure.reason, written.status)
                        self._take_written(written, "failed")
                    case "release":
                        self._take_written(await store.release(owner, claim, "drained"), "drained")
                    case "renew":
                        return  # the renewer's
        except (StoreError, TimeoutError) as error:
            self._lease.take_silence(error)

    async def _save_again(self) -> None:
        """Store the last checkpoint anew where the server may be one that lost it; one that it has is not touched."""
        self._lease.must_save = False
        record = self._lease.record
        if not record.is_at_risk or self._tenure.forgotten:
            return
        try:
            async with asyncio.timeout(self._lease.patience_s(self._around.clock.monotonic_s())):
                written = await self._around.store.checkpoint(
                    self._around.owner,
                    self._lease.claim,
                    record.kept.checkpoint_number,
                    record.kept.checkpoint or b"null",
                )
        except (StoreError, TimeoutError) as error:
            self._lease.take_silence(error)
            return
        record.is_at_risk = written.status == "refenced"

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
        self._run.start(self, self._around.owner.instance_id, self._lease.record.kept)

    async def _restart(self) -> None:
        """Start the coroutine again here, from what Redis holds as its last checkpoint."""
        await self._run.see_it_stop()
        try:
            kept = await self._around.store.accept(self._around.owner, self._lease.claim)
        except StoreUnavailable:
            kept = Acceptance(status="lost")
        if kept.status != "accepted":
            # Not now: the next renewal says what became of it.
            self._take(core.LeaseOver())
            return
        self._lease.record.accept(kept)
        self._start()
