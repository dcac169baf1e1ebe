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
from mediaflow.runtime.cohort import Cohort
from mediaflow.runtime.logbook import Logbook
from mediaflow.runtime.record import Record
from mediaflow.runtime.round import Round
from mediaflow.runtime.run import Run
from mediaflow.runtime.surroundings import Surroundings
from mediaflow.store import NEW_FENCE, RENEWED, Acceptance, Claim, Holding, Renewal, StoreUnavailable

log: Any = structlog.get_logger("mediaflow.actor")

PLACES = 16
"""So many places in the interval there are at least for an instance's renewals, lest there is a pulse."""


class Asked(NamedTuple):
    """What is remembered of a renewal that is under way."""

    new_fence: bool = False
    in_haste: bool = False


class Leasehold:
    """One session's tenure, kept up to date; a :class:`~mediaflow.runtime.cohort.Leaseholder`.

    Attributes:
        record: The owner's copy of the record.
        effects: What is to be done to the coroutine, by the task's next turn.
        must_save: The last checkpoint is to be stored anew: the server may be one that lost it.
        fault: Of ours, to be raised by the task.
        moment: For the renewer.
        cohort: Whose renewals are its own; None while it goes its own way.
        place: Where in the interval it is to be renewed.
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
        "_run",
        "_tenure",
        "_wake",
        "cohort",
        "effects",
        "fault",
        "moment",
        "must_save",
        "place",
        "record",
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
        self.place = partition_of(claim.call_id, places) / places
        if claim.fence != accepted.fence:
            claim = claim._replace(fence=accepted.fence)
        self._holding = Holding(around.owner, claim)
        self._generation = around.store.generation
        self.record = Record(accepted)
        self._tenure = core.begin(sent_at_s, accepted.fence, around.rules, self.spread(sent_at_s))
        self.effects: list[core.Effect] = []
        self.must_save = False
        self.fault: Exception | None = None
        self.moment: int | None = None
        self.cohort: Cohort | None = None
        self._in_haste = False
        self._asked: Asked | None = None
        self._is_turning = True
        self._answered: asyncio.Event | None = None
        self._news: asyncio.Event | None = None

    @property
    def tenure(self) -> core.Tenure:
        """What the owner knows, up to the last renewal of its cohort."""
        term = None if self.cohort is None else self.cohort.term
        if term is not None and term.sent_at_s != self._tenure.confirmed_at_s:
            self._tenure = core.renewed(self._tenure, term.sent_at_s, term.until)
        return self._tenure

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
        return lease.spread_towards(self.place, sent_at_s, self._around.rules.ttl_s)

    # -- events -----------------------------------------------------------------------------------

    def take(self, event: core.Event) -> None:
        """Take in an event; what it does to the coroutine is carried out by the task."""
        self._part()
        before, now_s = self._tenure, self._around.clock.monotonic_s()
        self._tenure, effects = core.step(before, event, now_s, self._around.rules)
        self.effects.extend(effects)
        fence, end = self._tenure.fence, self._tenure.end
        if fence != before.fence:
            self._holding = self._holding._replace(claim=self.claim._replace(fence=fence))
            self._logbook.refenced(fence)
        if end is not None:
            self._run.tell_end(end)  # before whoever waits for news goes on, and asks why
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
        self._part()
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
        self._part()
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
        self._part()
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

    # -- in its cohort, and for itself --------------------------------------------------------------

    def leave(self) -> None:
        """Take in what the cohort was told so far, and belong to it no more."""
        self._tenure, self.cohort = self.tenure, None

    def _part(self) -> None:
        """Go its own way: something happens to this session alone."""
        cohort = self.cohort
        if cohort is None:
            return
        self.leave()
        if cohort.part(self):
            self._asked = Asked()
        else:
            self._around.renewer.put(self, self._tenure.renew_at_s)

    def ask(self, round_: Round) -> Holding | None:
        """Return what to renew; None if something else comes first."""
        if self._is_turning or self._asked is not None:
            return None  # whose turn it is comes back to the renewer
        if not self._is_to_be_asked(round_):
            self._plan()
            return None
        tenure = self._tenure
        self._asked = Asked(tenure.new_fence, self._is_hasty)
        self._in_haste = False
        round_.send(core.agenda(tenure).at_s)
        if tenure.coroutine == "running":
            round_.bound(tenure.stop_at_s)
        return self._holding._replace(more=NEW_FENCE) if tenure.new_fence else self._holding

    def _is_to_be_asked(self, round_: Round) -> bool:
        """Look at the server and the clock, and return whether a renewal is due then."""
        if self._generation == round_.generation and core.is_due(self._tenure, round_.sent_at_s):
            return True
        self.look_at_server()
        self.take(core.Tick())
        if self.effects or self._tenure.end is not None:
            return False
        agenda = core.agenda(self._tenure)
        return agenda.request == "renew" and agenda.at_s <= self._around.clock.monotonic_s()

    def hear(self, answer: Renewal | Exception, round_: Round) -> Holding | None:
        """Take in the answer to a renewal; return what to ask for next, if that is the next renewal and no more."""
        asked, self._asked = self._asked or Asked(), None
        try:
            if answer is RENEWED and not asked.new_fence and self._is_plain(round_):
                self._hear_plain(round_)
            else:
                self._hear_news(answer, asked, round_)
        except Exception as fault:  # noqa: BLE001 - of this session alone, and so for its task to raise
            self.fault = fault
            self._wake.ring()
        if self._answered is not None:
            self._answered.set()
        if self._is_settled(round_):
            return self._holding
        self._plan()
        return None

    def _is_plain(self, round_: Round) -> bool:
        """Tell whether a confirmed renewal changes nothing but the deadlines."""
        return (
            core.is_held(self._tenure)
            and round_.is_same_server
            and round_.heard_at_s < round_.until(self.place).stop_at_s
        )

    def _is_settled(self, round_: Round) -> bool:
        """Tell whether the next renewal is all that is to be done, at the time that follows from this round."""
        return (
            core.is_held(self._tenure)
            and self._tenure.confirmed_at_s == round_.sent_at_s
            and not (self._in_haste or self._is_turning or self.effects or self.must_save)
            and self.fault is None
            and self._news is None
        )

    def _hear_plain(self, round_: Round) -> None:
        """Take in that the lease was renewed and nothing else happened."""
        round_.renewed(self._tenure.stop_at_s)
        self._tenure = core.renewed(self._tenure, round_.sent_at_s, round_.until(self.place))
        self.tell_news()

    def _hear_news(self, answer: Renewal | Exception, asked: Asked, round_: Round) -> None:
        if isinstance(answer, Exception):
            self._logbook.without_answer(rejected=not isinstance(answer, StoreUnavailable))
            self.take_silence(answer)
            return
        sent_at_s, heard_at_s = round_.sent_at_s, round_.heard_at_s
        left_s = self._tenure.stop_at_s - heard_at_s
        self._logbook.renewed(answer, heard_at_s - sent_at_s, left_s, asked=asked.in_haste)
        if answer.overlap_ms is not None:
            self._logbook.overlapped(answer.overlap_ms / 1000 - self._run.idle_s(heard_at_s))
        heard = self.heard(answer.status, answer.fence or self._tenure.fence, sent_at_s)
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
