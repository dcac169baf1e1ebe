"""Questions that several checkers ask of a history: who ran what when, and how it was at the end.

Times tell what overlaps; where two happenings have the same time, their order in the history does.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from mediaflow.core.tenure import backoff_s
from mediaflow.testing.history import (
    Answered,
    AnyHappening,
    Fault,
    Final,
    Happening,
    Joined,
    Left,
    Recorded,
    Started,
    Stopped,
    Terms,
)

FOREVER = math.inf
LIVE = frozenset({"active", "pending"})
TERMINAL = frozenset({"completed", "failed", "cancelled", "yielded"})

SWIFT_S = 0.5
"""What DESIGN.md §3 allows for noticing and giving away, beyond a lease: half a second."""

LONGEST_STOP_S = 15.0
"""What a handler may take to stop once it is told to, in any run that is to be checked."""

ROUNDING_S = 1e-6
"""Times are sums of floats: what is exactly at a bound must not count as past it."""

Kind = TypeVar("Kind", bound=Happening)


def every(history: Sequence[AnyHappening], kind: type[Kind]) -> list[Kind]:
    """Return the happenings of one kind, in order."""
    return [one for one in history if isinstance(one, kind)]


def final(history: Sequence[AnyHappening]) -> Final | None:
    """Return how the run ended, if somebody wrote it down."""
    return next((one for one in reversed(history) if isinstance(one, Final)), None)


def succeeded(status: int) -> bool:
    """Tell a 2xx."""
    return 200 <= status < 300


class Run(NamedTuple):
    """A handler, from its start until it was left, or its process ended."""

    started: Started
    ended_s: float = FOREVER
    reason: str = ""

    def spans(self, at_s: float) -> bool:
        """Tell whether it was running then."""
        return self.started.at_s <= at_s < self.ended_s


def runs(history: Sequence[AnyHappening]) -> list[Run]:
    """Return every run of a handler, in the order of their starts.

    A process that ended, however it did, runs nothing any more, also if nobody lived to write ``Stopped``. Which
    process an incarnation is: the newest of its instance when it was first seen to run something.
    """
    found: list[Run] = []
    open_of: defaultdict[str, list[int]] = defaultdict(list)
    newest_process: dict[str, int] = {}
    process_of: dict[tuple[str, int], int] = {}

    def end(at_s: float, reason: str, instance_id: str, those: Iterable[int]) -> None:
        for index in those:
            found[index] = found[index]._replace(ended_s=at_s, reason=reason)
            open_of[instance_id].remove(index)

    def open_in(instance_id: str, process: int) -> list[int]:
        return [i for i in open_of[instance_id] if process_of[_owner(found[i].started)] in (0, process)]

    for one in history:
        match one:
            case Joined():
                newest_process[one.instance_id] = one.process
            case Started():
                process_of.setdefault(_owner(one), newest_process.get(one.instance_id, 0))
                open_of[one.instance_id].append(len(found))
                found.append(Run(one))
            case Stopped():
                those = [i for i in open_of[one.instance_id] if _is_of(found[i].started, one)]
                end(one.at_s, one.reason, one.instance_id, those[:1])
            case Left():
                end(one.at_s, one.reason, one.instance_id, open_in(one.instance_id, one.process))
            case Fault(kind="killed"):
                process = newest_process.get(one.target, 0)
                end(one.at_s, "killed", one.target, open_in(one.target, process))
            case _:
                pass
    return found


def _owner(started: Started) -> tuple[str, int]:
    return started.instance_id, started.incarnation


def _is_of(started: Started, stopped: Stopped) -> bool:
    return started.session_id == stopped.session_id and started.incarnation == stopped.incarnation


def settled_by(history: Sequence[AnyHappening], terms: Terms) -> dict[str, float]:
    """Return by when each session must have come to rest, unless a fault keeps it from it.

    That is an acceptance and half a second after it was first seen, or after its last handler left; and the
    back-off if that one may have raised.
    """
    rest_s = terms.accept_ttl_s + SWIFT_S + terms.slack_s
    by: dict[str, float] = {}
    for one in history:
        if isinstance(one, Recorded | Answered):
            by.setdefault(one.session_id, one.at_s + rest_s)
    for run in runs(history):
        if run.ended_s != FOREVER:
            by[run.started.session_id] = run.ended_s + backoff_s(run.started.attempt) + rest_s
    return by


def has_room(history: Sequence[AnyHappening], end: Final, terms: Terms) -> bool:
    """Tell whether some instance has had a free slot at the end for as long as it takes to fill it."""
    recently_s = end.at_s - terms.accept_ttl_s - SWIFT_S - terms.slack_s
    new = {one.instance_id for one in every(history, Joined) if one.at_s > recently_s}
    freed = [run.started.instance_id for run in runs(history) if recently_s < run.ended_s <= end.at_s]
    return any(
        slots > end.running.get(instance_id, 0) + freed.count(instance_id)
        for instance_id, slots in end.slots.items()
        if instance_id not in new
    )
