"""What `mediaflow top` shows: sessions kept up to date by events, so that few have to be read again and again.

All calls are read once. From then on each event changes a row, and only the rows that can be seen are asked for anew.
Pure: lists and events come in, rows come out.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Mapping

import msgspec

from mediaflow.api.messages import CallView, EventView

EVENTS_KEPT = 200

_LIVE = frozenset({"active", "pending"})
_BEGINS = frozenset({"session.activated", "session.handoff", "session.takeover", "session.readopted"})
_ENDS = frozenset({"session.completed", "session.failed", "session.cancelled", "session.yielded"})


class Row(msgspec.Struct, kw_only=True, rename="camel"):
    """One live session; ``attempt`` and ``lease_remaining_ms`` are as of the last time that its call was read."""

    call_id: str
    session_id: str
    state: str
    owner: str | None = None
    fence: int = 0
    attempt: int = 1
    lease_remaining_ms: int | None = None
    changed: int = 0


class Board:
    """The live sessions and the last events.

    Attributes:
        events: The newest last.
        complete: Every call was read; else there may be sessions that are not known here.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.events: deque[EventView] = deque(maxlen=EVENTS_KEPT)
        self.complete = False
        self._rows: dict[str, Row] = {}
        self._changes = itertools.count(1)
        self._meanwhile: set[str] = set()

    def __len__(self) -> int:
        """Return how many live sessions are known."""
        return len(self._rows)

    def count(self, state: str) -> int:
        """Return how many of them are in a state."""
        return sum(row.state == state for row in self._rows.values())

    def first(self, number: int) -> list[Row]:
        """Return the rows that matter most: pending ones first, then what changed last."""
        return heapq.nsmallest(
            number,
            self._rows.values(),
            key=lambda row: (row.state != "pending", -row.changed, row.call_id, row.session_id),
        )

    def begin_reading(self) -> None:
        """Note that all calls are about to be read: of a session that changes meanwhile, the event is the news."""
        self._meanwhile.clear()

    def replace(self, calls: Iterable[CallView], *, complete: bool) -> None:
        """Take up all calls as they were read; what is not among them is gone."""
        before = self._rows
        self._rows = {key: row for key, row in before.items() if key in self._meanwhile}
        changed = frozenset(self._meanwhile)
        for call in calls:
            self._take_up(call, before, changed)
        self.complete = complete

    def look(self, call: CallView) -> None:
        """Take up one call as it was read."""
        self._take_up(call, self._rows, frozenset())

    def _take_up(self, call: CallView, before: Mapping[str, Row], changed_since: frozenset[str]) -> None:
        for session in call.sessions:
            if session.session_id in changed_since:
                continue
            known = before.get(session.session_id)
            if session.state not in _LIVE:
                self._rows.pop(session.session_id, None)
            elif known is None or session.fence >= known.fence:
                self._rows[session.session_id] = Row(
                    call_id=call.call_id,
                    session_id=session.session_id,
                    state=session.state,
                    owner=session.owner,
                    fence=session.fence,
                    attempt=session.attempt,
                    lease_remaining_ms=session.lease_remaining_ms if session.state == "active" else None,
                    changed=known.changed if known else 0,
                )

    def forget(self, call_id: str) -> None:
        """Take up that a call is not known any more."""
        for session_id in [row.session_id for row in self._rows.values() if row.call_id == call_id]:
            del self._rows[session_id]

    def observe(self, event: EventView) -> None:
        """Take up one event; events come in order."""
        self.events.append(event)
        session_id = event.session_id
        if not session_id or not event.event.startswith("session."):
            return
        self._meanwhile.add(session_id)
        if event.event in _ENDS:
            self._rows.pop(session_id, None)
            return
        row = self._rows.get(session_id)
        if row is None:
            if event.event == "session.lost":
                return
            row = self._rows[session_id] = Row(
                call_id=event.call_id or "", session_id=session_id, state="pending"
            )
        elif (event.fence or 0) < row.fence:
            return  # told again, or of an owner that is not the last
        if event.event in _BEGINS:
            row.state, row.owner, row.fence = "active", event.instance_id, event.fence or 0
        elif event.event == "session.pending":
            row.state, row.owner, row.lease_remaining_ms = "pending", None, None
        row.changed = next(self._changes)
