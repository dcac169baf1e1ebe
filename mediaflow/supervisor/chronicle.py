"""From the deaths of processes and the events of the store to sentences for people, and takeover times.

A worker that dies moves dozens of calls: each is an event, all together are one line. So a line about a
worker is held back until its calls have moved and nothing more has come for a moment, or until it has
been held long enough.

Pure: time is what the caller says it is. Wall times of deaths (this host) and of events (Redis) are compared
as they are; where the clocks differ, the earlier beginning is not believed and the event's is taken.
"""

from collections import Counter, deque
from typing import NamedTuple

import msgspec

from mediaflow.store import Event
from mediaflow.supervisor.figures import count, listed

QUIET_MS = 400
LONGEST_HELD_MS = 4_000
NOTHING_MOVED_MS = 1_500
TIMES_KEPT = 10_000

_GAINED = frozenset(
    {"session.activated", "session.takeover", "session.handoff", "session.readopted"},
)
_ENDED = frozenset({"session.completed", "session.failed", "session.cancelled", "session.yielded"})


class _Holding(NamedTuple):
    instance: str
    since_ms: int


class _Lost(NamedTuple):
    instance: str
    began_ms: int


class _Move(msgspec.Struct):
    """What becomes of the calls that one instance lost."""

    began_ms: int
    cause: str = ""
    waiting: set[str] = msgspec.field(default_factory=set[str])
    moved: Counter[str] = msgspec.field(default_factory=Counter[str])
    ended: int = 0
    changed_ms: int = 0
    last_takeover_ms: int = 0


class Chronicle:
    """Gathers what happened; :meth:`due` gives the lines that are ripe.

    Attributes:
        takeovers: How many there were.
        takeovers_ms: How long each took, the latest of them.
    """

    def __init__(self, own: frozenset[str] = frozenset()) -> None:
        """Name the instances whose coming and going is reported by whoever runs them."""
        self.takeovers = 0
        self.takeovers_ms: deque[int] = deque(maxlen=TIMES_KEPT)
        self._own = own
        self._holding: dict[str, _Holding] = {}
        self._lost: dict[str, _Lost] = {}
        self._deaths: dict[str, int] = {}
        self._moves: dict[str, _Move] = {}
        self._lines: list[str] = []

    def died(self, instance: str, at_ms: int, how: str) -> None:
        """Note that the process of an instance ended without a farewell."""
        self._deaths[instance] = at_ms
        move = self._move(instance, at_ms)
        move.began_ms = min(move.began_ms, at_ms)
        move.cause = f"died ({how})"
        move.changed_ms = max(move.changed_ms, at_ms)

    def observe(self, event: Event) -> None:
        """Take up one event of the store; events come in order."""
        if event.event.startswith("instance."):
            self._instance_event(event)
        elif event.event == "session.pending":
            self._pending(event)
        elif event.event in _GAINED:
            self._gained(event)
        elif event.event in _ENDED:
            self._holding.pop(event.session_id, None)
            self._settle(event)

    def due(self, now_ms: int) -> list[str]:
        """Return the lines that are ripe at ``now_ms``, and forget them."""
        ripe = [name for name, move in self._moves.items() if _is_ripe(move, now_ms)]
        lines, self._lines = self._lines, []
        return lines + [line for name in ripe if (line := _tell(name, self._moves.pop(name)))]

    def _instance_event(self, event: Event) -> None:
        if event.event == "instance.draining":
            self._move(event.instance_id, event.at_ms).cause = "drains"
        elif event.instance_id not in self._own:
            reason = f" ({event.reason})" if event.reason else ""
            self._lines.append(f"{event.instance_id} {event.event.removeprefix('instance.')}{reason}")

    def _pending(self, event: Event) -> None:
        holding = self._holding.pop(event.session_id, None)
        if not event.instance_id or event.session_id in self._lost:
            return  # it never had an owner, or the next one did not even accept it
        death_ms = self._deaths.get(event.instance_id)
        began_ms = event.at_ms
        if death_ms is not None and (holding is None or holding.since_ms <= death_ms):
            began_ms = min(event.at_ms, death_ms)
        self._lost[event.session_id] = _Lost(event.instance_id, began_ms)
        move = self._move(event.instance_id, began_ms)
        move.waiting.add(event.session_id)
        move.changed_ms = max(move.changed_ms, event.at_ms)
        move.cause = move.cause or f"lost calls ({event.reason})"

    def _gained(self, event: Event) -> None:
        self._holding[event.session_id] = _Holding(event.instance_id, event.at_ms)
        lost = self._lost.get(event.session_id)
        if lost and event.event == "session.takeover":
            self.takeovers += 1
            self.takeovers_ms.append(max(0, event.at_ms - lost.began_ms))
        self._settle(event)

    def _settle(self, event: Event) -> None:
        lost = self._lost.pop(event.session_id, None)
        if lost is None:
            return
        move = self._move(lost.instance, lost.began_ms)
        move.waiting.discard(event.session_id)
        move.changed_ms = max(move.changed_ms, event.at_ms)
        if event.event in _GAINED:
            move.moved[event.instance_id] += 1
            move.last_takeover_ms = max(move.last_takeover_ms, event.at_ms)
        else:
            move.ended += 1

    def _move(self, instance: str, began_ms: int) -> _Move:
        return self._moves.setdefault(instance, _Move(began_ms, changed_ms=began_ms))


def _is_ripe(move: _Move, now_ms: int) -> bool:
    if now_ms - move.changed_ms >= LONGEST_HELD_MS:
        return True
    if move.waiting:
        return False
    return now_ms - move.changed_ms >= (QUIET_MS if move.moved else NOTHING_MOVED_MS)


def _tell(instance: str, move: _Move) -> str:
    parts: list[str] = []
    if total := move.moved.total():
        where = listed(sorted(move.moved))
        took_s = (move.last_takeover_ms - move.began_ms) / 1000
        parts.append(f"{count(total, 'call')} moved to {where} in {max(0.0, took_s):.2f} s")
    if move.ended:
        parts.append(f"{count(move.ended, 'call')} ended meanwhile")
    if move.waiting:
        parts.append(f"{count(len(move.waiting), 'call')} still waiting for an owner")
    if not parts and not move.cause.startswith("died"):
        return ""
    return f"{instance} {move.cause or 'lost calls'}; {', '.join(parts) or 'it held no calls'}"
