"""The lease of one session, in its owner's hands: what is known of it, and how its renewals are answered.

All decisions are :mod:`mediaflow.core.tenure`'s. The :class:`~mediaflow.runtime.renewer.Renewer` asks for renewals,
together with those of other sessions; all else is for the actor's task, which is woken for it and sleeps otherwise.

Invariant: for one session the store is asked one thing after the other, by the renewer or in a turn of the task. So
an answer never meets a state that was not there when its question was sent, but for hints, drains and new fences.
"""

import asyncio
from typing import Any, NamedTuple

import structlog

from mediaflow.core import lease
from mediaflow.core import tenure as core
from mediaflow.core.partitions import partition_of
from mediaflow.runtime.bell import Bell
from mediaflow.runtime.logbook import Logbook
from mediaflow.runtime.record import Record
from mediaflow.runtime.renewer import Round
from mediaflow.runtime.run import Run
from mediaflow.runtime.surroundings import Surroundings
from mediaflow.store import NEW_FENCE, Acceptance, Claim, Holding, Renewal, StoreUnavailable

log: Any = structlog.get_logger("mediaflow.actor")

PLACES = 16
"""So many places in the interval there are at least for an instance's renewals, lest there is a pulse."""


class Asked(NamedTuple):
    """What is remembered of a renewal that is under way."""

    new_fence: bool
    in_haste: bool


_PLAINLY = Asked(new_fence=False, in_haste=False)


class Leasehold:
    """One session's tenure, kept up to date; a :class:`~mediaflow.runtime.renewer.Leaseholder`.

    Attributes:
        tenure: What the owner knows.
        record: Its copy of the record.
        effects: What is to be done to the coroutine, by the task's next turn.
        must_save: The last checkpoint is to be stored anew: the server may be one that lost it.
        fault: Of ours, to be raised by the task.
        moment: For the renewer.
    """

    __slots__ = (
        "_answered",
        "_around",
        "_asked",
        "_generation",
        "_holding",
        "_in_haste",
        "_is_turning",
        "_logbook",
        "_news",
        "_place",
        "_run",
        "_wake",
        "effects",
        "fault",
        "moment",
        "must_save",
        "record",
        "tenure",
    )

    def __init__(
        self,
        around: Surroundings,
        claim: Claim,
        accepted: Acceptance,
        sent_at_s: float,
        logbook: Logbook,
        run: Run,
        wake: Bell,
    ) -> None:
        """Hold what was accepted by a request sent at ``sent_at_s``; ``wake`` is rung when there is something to do."""
        self._around, self._logbook, self._run, self._wake = around, logbook, run, wake
        # All of a partition have one place in the interval, so that one script renews many.
        places = around.store.partitions * -(-PLACES // around.store.partitions)
        self._place = partition_of(claim.call_id, places) / places
        if claim.fence != accepted.fence:
            claim = claim._replace(fence=accepted.fence)
        self._holding = Holding(around.owner, claim)
        self._generation = around.store.generation
        self.record = Record(accepted)
        self.tenure = core.begin(sent_at_s, accepted.fence, around.rules, self.spread(sent_at_s))
        self.effects: list[core.Effect] = []
        self.must_save = False
        self.fault: Exception | None = None
        self.moment: int | None = None
        self._in_haste = False
        self._asked: Asked | None = None
        self._is_turning = True
        self._answered: asyncio.Event | None = None
        self._news: asyncio.Event | None = None

    @property
    def claim(self) -> Claim:
        """What is believed to be held."""
        return self._holding.claim

    def remaining_s(self) -> float:
        """Seconds until the lease must be distrusted; not positive once it is over for this owner."""
        if self.tenure.end is not None:
            return 0.0
        return self.tenure.stop_at_s - self._around.clock.monotonic_s()

    def patience_s(self, now_s: float) -> float | None:
        """Return how long an answer may be waited for: a coroutine that has to be stopped in time bounds it."""
        return max(0.0, self.tenure.stop_at_s - now_s) if self._stops_in_time else None

    def spread(self, sent_at_s: float) -> float:
        """Return the spread of the renewal after one sent at ``sent_at_s``."""
        return lease.spread_towards(self._place, sent_at_s, self._around.rules.ttl_s)

    # -- events -----------------------------------------------------------------------------------

    def take(self, event: core.Event) -> None:
        """Take in an event; what it does to the coroutine is carried out by the task."""
        fence = self.tenure.fence
        now_s = self._around.clock.monotonic_s()
        self.tenure, effects = core.step(self.tenure, event, now_s, self._around.rules)
        self.effects.extend(effects)
        if self.tenure.fence != fence:
            self._holding = self._holding._replace(claim=self.claim._replace(fence=self.tenure.fence))
            self._logbook.refenced(self.tenure.fence)
        if self.tenure.end is not None:
            self._run.tell_end(self.tenure.end)  # before whoever waits for news goes on, and asks why
        if isinstance(event, core.Confirmed | core.Ended):
            self.tell_news()

    def take_silence(self, error: Exception) -> None:
        """Take in that there was no answer; asking again may help."""
        # Redis refuses this session alone: a damaged record. It may be mended before the lease is over.
        refused = not isinstance(error, StoreUnavailable | TimeoutError)
        if refused and self.tenure.retry_at_s <= self.tenure.confirmed_at_s:
            call_id, session_id, _ = self.claim
            log.error("session.store_refused", call=call_id, session=session_id, exc_info=error)
        self.take(core.Silence())

    def look_at_server(self) -> None:
        """Take in that the server may be another one, if it may."""
        if self._has_other_server():
            self._generation = self._around.store.generation
            self.record.server_changed()
            self.take(core.ServerChanged())

    def ask_now(self) -> None:
        """Renew at once: something is said to have happened to the session."""
        self._in_haste = True
        self.take(core.Asked())
        self._plan()

    async def next_news(self) -> None:
        """Wait for the next word of Redis on this session, for as long as the lease surely holds."""
        try:
            async with asyncio.timeout(max(0.0, self.remaining_s())):
                news = self._news = self._news or asyncio.Event()
                await news.wait()
        except TimeoutError:
            return

    def tell_news(self) -> None:
        """Have whoever waits for news go on; who waits from now on waits for the next."""
        if self._news is not None:
            self._news.set()
            self._news = None

    # -- whose turn it is -------------------------------------------------------------------------

    async def begin_turn(self) -> None:
        """Have the renewer leave the session alone, and wait for the answer to what it asked."""
        self._is_turning = True
        if self._asked is not None:
            self._answered = asyncio.Event()
            await self._answered.wait()
            self._answered = None

    def end_turn(self) -> None:
        """Leave what is next to the renewer, if it is a renewal."""
        self._is_turning = False
        self._leave_to_renewer()

    def close(self) -> None:
        """Have nothing renewed any more."""
        self._is_turning = True
        self._around.renewer.take_out(self)
        self.tell_news()

    def alarm_s(self) -> float | None:
        """Return when the task has to look at the clock; None if renewals are all that will be due."""
        tenure, agenda = self.tenure, core.agenda(self.tenure)
        if agenda.request != "renew" or (self._is_hasty and self.moment is None):
            return agenda.at_s
        if tenure.retry_at_s and self._stops_in_time:
            # Redis is silent. Otherwise a renewal is due, and looks at the clock, long before the lease is over.
            return agenda.look_at_s
        return None

    def _plan(self) -> None:
        """Leave what is next to the renewer, and wake the task if there is more."""
        if self._is_turning or self._asked is not None:
            return  # whose turn it is plans anew at its end
        self._leave_to_renewer()
        if self.effects or self.tenure.end is not None or self.must_save or self.alarm_s() is not None:
            self._wake.ring()

    def _leave_to_renewer(self) -> None:
        agenda = core.agenda(self.tenure)
        if agenda.request != "renew" or self.tenure.end is not None:
            return
        if not self._is_hasty:
            self._around.renewer.put(self, agenda.at_s)
        elif agenda.at_s <= self._around.clock.monotonic_s():
            self._around.renewer.put_first(self)

    @property
    def _is_hasty(self) -> bool:
        return self._in_haste or self.tenure.new_fence

    @property
    def _stops_in_time(self) -> bool:
        return self._around.rules.stop_when_cut_off and self.tenure.coroutine == "running"

    def _has_other_server(self) -> bool:
        return self._around.store.generation != self._generation

    # -- for the renewer ----------------------------------------------------------------------------

    def ask(self, round_: Round) -> Holding | None:
        """Return what to renew; None if something else comes first."""
        if self._is_turning or self._asked is not None:
            return None  # whose turn it is comes back to the renewer
        tenure, sent_at_s = self.tenure, round_.sent_at_s
        plainly = not (self._in_haste or tenure.new_fence or self._generation != round_.generation)
        if plainly and core.is_due(tenure, sent_at_s):
            round_.late_s.append(sent_at_s - max(tenure.renew_at_s, tenure.retry_at_s))
            self._asked = _PLAINLY
            self._bound(round_)
            return self._holding
        if not self._is_to_be_asked():
            self._plan()
            return None
        tenure = self.tenure
        round_.late_s.append(max(0.0, sent_at_s - core.agenda(tenure).at_s))
        self._asked = Asked(tenure.new_fence, self._is_hasty)
        self._in_haste = False
        self._bound(round_)
        return self._holding._replace(more=NEW_FENCE) if tenure.new_fence else self._holding

    def _bound(self, round_: Round) -> None:
        """Have the answer come in time to stop the coroutine."""
        if self.tenure.stop_at_s < round_.answer_by_s and self._stops_in_time:
            round_.answer_by_s = self.tenure.stop_at_s

    def _is_to_be_asked(self) -> bool:
        """Look at the server and the clock, and return whether a renewal is due then."""
        self.look_at_server()
        self.take(core.Tick())
        if self.effects or self.tenure.end is not None:
            return False
        agenda = core.agenda(self.tenure)
        return agenda.request == "renew" and agenda.at_s <= self._around.clock.monotonic_s()

    def hear(self, answer: Renewal | Exception, round_: Round) -> None:
        """Take in the answer to a renewal."""
        asked, self._asked = self._asked, None
        if asked is None:
            return
        try:
            if self._hear_plain(answer, asked, round_):
                if not (self._in_haste or self._is_turning) and self.tenure.intent == "hold":
                    self._around.renewer.put(self, self.tenure.renew_at_s)
                    return
            else:
                self._hear_news(answer, asked, round_)
        except Exception as fault:  # noqa: BLE001 - of this session alone, and so for its task to raise
            self.fault = fault
            self._wake.ring()
        if self._answered is not None:
            self._answered.set()
        self._plan()

    def _hear_plain(self, answer: Renewal | Exception, asked: Asked, round_: Round) -> bool:
        """Take in that the lease was renewed and nothing else happened; False if it is not as simple as that."""
        if isinstance(answer, Exception) or answer.status != "renewed" or asked.new_fence:
            return False
        before, heard_at_s = self.tenure, round_.heard_at_s
        after = core.renewed(before, round_.sent_at_s, round_.until(self._place), heard_at_s)
        if after is None or self._generation != round_.generation:
            return False
        self.tenure = after
        left_s = before.stop_at_s - heard_at_s
        round_.left_s.append(left_s if left_s > 0 else 0.0)
        if self._news is not None:
            self.tell_news()
        return True

    def _hear_news(self, answer: Renewal | Exception, asked: Asked, round_: Round) -> None:
        if isinstance(answer, Exception):
            self._logbook.without_answer(rejected=not isinstance(answer, StoreUnavailable))
            self.take_silence(answer)
            return
        sent_at_s, heard_at_s = round_.sent_at_s, round_.heard_at_s
        left_s = self.tenure.stop_at_s - heard_at_s
        self._logbook.renewed(answer, heard_at_s - sent_at_s, left_s, asked=asked.in_haste)
        if answer.overlap_ms is not None:
            self._logbook.overlapped(answer.overlap_ms / 1000 - self._run.idle_s(heard_at_s))
        heard = self.heard(answer.status, answer.fence or self.tenure.fence, sent_at_s)
        if isinstance(heard, core.Confirmed) and not asked.new_fence and self._has_other_server():
            return  # it may have lost who came after us: it is asked for a new fence first
        self.take(heard)
        self.must_save = self.record.is_at_risk

    def heard(self, status: str, fence: int, sent_at_s: float) -> core.Event:
        """Return what an answer to a renewal, or to a readoption, means."""
        match status:
            case "renewed" | "refenced" | "readopted":
                return core.Confirmed(sent_at_s, fence, self.spread(sent_at_s))
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
