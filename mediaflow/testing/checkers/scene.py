"""The scene of a takeover: whether anything else was wrong, who owned what, and what became of it. A part of G6."""

from collections.abc import Sequence
from typing import NamedTuple

from mediaflow.testing.checkers.losses import Records
from mediaflow.testing.checkers.reading import ROUNDING_S, TERMINAL, Run, every, runs
from mediaflow.testing.checkers.troubles import intervals, troubles, untroubled
from mediaflow.testing.history import (
    AnyHappening,
    DrainAsked,
    EndAsked,
    Fault,
    Joined,
    Recorded,
    Started,
    Submitted,
    Terms,
)

HARMLESS = frozenset({"unreachable", "reachable", "balancer killed"})
STANDING = (
    "frozen",
    "stopped",
    "foul weather",
    "watchdog paused",
    "watchdog killed",
    "slowed",
    "paused",
    "cut",
)


class Window(NamedTuple):
    """An instance fell silent, or gave a session up, at ``from_s``; by ``to_s`` another must have it."""

    instance_id: str
    from_s: float
    to_s: float


class Scene:
    """A history, and what is asked of it again and again."""

    def __init__(self, history: Sequence[AnyHappening], terms: Terms) -> None:
        """Read it once."""
        self.history = history
        self.terms = terms
        self.runs = runs(history)
        self.ended = {one.call_id for one in every(history, EndAsked)}
        self._troubles = troubles(history)
        self._joined = every(history, Joined)
        instances = {one.instance_id for one in self._joined}
        self._standing = [
            interval
            for kind in STANDING
            for who, interval in intervals(history, kind)
            if kind not in ("paused", "cut") or who not in instances
        ]

    def is_silent(self, window: Window) -> bool:
        """Tell whether an instance was in one trouble all the while."""
        return any(
            trouble.from_s <= window.from_s and trouble.to_s >= window.to_s
            for trouble in self._troubles.get(window.instance_id, ())
        )

    def is_moved(self, started: Started, window: Window) -> bool:
        """Tell whether the session was given to another in time, failed, or has ended."""
        for one in self.history:
            if not isinstance(one, Started | Recorded) or one.session_id != started.session_id:
                continue
            in_time = window.from_s <= one.at_s <= window.to_s + ROUNDING_S
            if isinstance(one, Started) and one.at_s >= window.from_s and one.attempt > started.attempt:
                return True
            if in_time and isinstance(one, Recorded) and one.state in TERMINAL:
                return True
            is_other = (one.instance_id, one.incarnation) != (started.instance_id, started.incarnation)
            is_active = isinstance(one, Started) or one.state == "active"
            if in_time and is_other and is_active and one.fence > started.fence:
                return True
        return False

    def is_calm(self, window: Window, cause: AnyHappening) -> bool:
        """Tell whether nothing else is wrong, and others have room."""
        since_s = window.from_s - self.terms.lease_ttl_s
        if self.history[-1].at_s < window.to_s or any(
            one.from_s <= window.to_s and one.to_s >= since_s for one in self._standing
        ):
            return False
        for one in self.history:
            is_wrong = isinstance(one, DrainAsked) or (isinstance(one, Fault) and one.kind not in HARMLESS)
            if is_wrong and one is not cause and since_s <= one.at_s <= window.to_s:
                return False
        return self._has_room(window)

    def _has_room(self, window: Window) -> bool:
        room = 0
        for instance_id in {one.instance_id for one in self._joined} - {window.instance_id}:
            joined = [one for one in self._joined if one.instance_id == instance_id]
            was_there = joined[-1].at_s <= window.from_s - self.terms.lease_ttl_s
            if was_there and untroubled(self._troubles, instance_id, window.from_s, window.to_s):
                room += joined[-1].slots - len(self._on(instance_id, window.from_s))
        asked = sum(window.from_s <= one.at_s <= window.to_s for one in every(self.history, Submitted))
        records = self._records_at(window.from_s)
        pending = sum(one.state == "pending" for one in records.everything())
        return room >= len(self._on(window.instance_id, window.from_s)) + asked + pending

    def _on(self, instance_id: str, at_s: float) -> list[Run]:
        """Return what ran on an instance then, also what ended in that very moment."""
        return [
            run
            for run in self.runs
            if run.started.instance_id == instance_id and run.started.at_s <= at_s <= run.ended_s
        ]

    def owned(self, window: Window, *, dies: bool) -> list[Run]:
        """Return what an instance ran and owned when it fell silent, and is owed to be moved."""
        records = self._records_at(window.from_s)
        found: list[Run] = []
        for run in self._on(window.instance_id, window.from_s):
            started = run.started
            record = records.newest(started.session_id)
            is_running = run.spans(window.from_s) or (dies and run.reason == "killed")
            owns = (
                (record.state, record.instance_id, record.incarnation)
                == ("active", started.instance_id, started.incarnation)
                if record
                else not self._has_records()
            )
            times = sum(other.started.session_id == started.session_id for other in self.runs)
            if is_running and owns and times < self.terms.max_takeovers and started.call_id not in self.ended:
                found.append(run)
        return found

    def _has_records(self) -> bool:
        return any(isinstance(one, Recorded) for one in self.history)

    def _records_at(self, at_s: float) -> Records:
        records = Records(self.terms)
        for one in self.history:
            if one.at_s > at_s:
                break
            records.take(one)
        return records
