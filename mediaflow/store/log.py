"""The log of events, written by the scripts that change state: histories, and the feed of ``/events``.

Each partition has a log, and the registry has one. Their stream ids, put together as
``<ms>-<sequence>-<partition>``, order all events; a reader holds one position for each log, and a single
event id stands for the position at which every log had been read as far as that event's time.

Not guaranteed: with Redis Cluster, whose nodes have clocks of their own, a reader that resumes from an
event id may miss or repeat what happened within the difference of those clocks.
"""

import re
from typing import Any, cast

from mediaflow.store.part import Part, text
from mediaflow.store.records import Event, EventBatch, EventPosition

HISTORY_PAGE = 1000
"""Entries read in one command: a bound on how long Redis serves nobody else."""

_EVENT_ID = re.compile(r"(\d{1,15})-(\d{1,10})-(\d{1,4})", re.ASCII)


class Log(Part):
    """Reads of the logs."""

    async def history(self, call_id: str, *, timeout_s: float = 5.0) -> list[Event]:
        """Return the events of a call that the log still holds, oldest first."""
        partition = self._keys.partition_of(call_id)
        await self._ensure_claimed(timeout_s)
        events: list[Event] = []
        after = "-"
        while True:
            (entries,) = await self._asker.commands(
                [("XRANGE", self._keys.log(partition), after, "+", "COUNT", HISTORY_PAGE)],
                timeout_s=timeout_s,
            )
            read = [_event(partition, entry) for entry in entries]
            events.extend(event for event in read if event.call_id == call_id)
            if len(entries) < HISTORY_PAGE:
                return events
            after = f"({text(entries[-1][0])}"

    async def tail(self, *, timeout_s: float = 2.0) -> EventPosition:
        """Return the position of the newest event."""
        await self._ensure_claimed(timeout_s)
        newest = await self._asker.commands(
            [("XREVRANGE", self._keys.log(number), "+", "-", "COUNT", 1) for number in self._logs()],
            timeout_s=timeout_s,
        )
        return EventPosition(tuple(text(entries[0][0]) if entries else "0-0" for entries in newest))

    async def position_of(self, event_id: str) -> EventPosition:
        """Return the position right behind an event; see the module on what that means."""
        found = _EVENT_ID.fullmatch(event_id)
        if found is None or int(found[3]) > self.partitions:
            raise ValueError(f"event id {event_id[:80]!r} is none that an event bore")
        at_ms, sequence, partition = int(found[1]), int(found[2]), int(found[3])
        # Events are ordered by (ms, sequence, partition), so logs behind this one are read from just before it.
        return EventPosition(
            tuple(
                f"{at_ms}-{sequence}" if number <= partition else _just_before(at_ms, sequence)
                for number in self._logs()
            )
        )

    async def events(self, after: EventPosition, *, limit: int = 500, timeout_s: float = 2.0) -> EventBatch:
        """Return events behind a position, in order; ``reset`` if the log no longer reaches back that far."""
        await self._ensure_claimed(timeout_s)
        commands: list[tuple[Any, ...]] = []
        for number in self._logs():
            key = self._keys.log(number)
            commands.append(("XRANGE", key, f"({after.last_ids[number]}", "+", "COUNT", limit))
            commands.append(("XRANGE", key, "-", "+", "COUNT", 1))
            commands.append(("XLEN", key))
        replies = await self._asker.commands(commands, timeout_s=timeout_s)
        found: list[Event] = []
        reset = False
        for number in self._logs():
            entries, oldest, length = replies[3 * number : 3 * number + 3]
            found.extend(_event(number, entry) for entry in entries)
            reset = reset or _has_gap(after.last_ids[number], oldest, int(length))
        found.sort(key=lambda event: _order(event.event_id))
        events = found[:limit]
        last_ids = list(after.last_ids)
        for event in events:
            at_ms, sequence, number = event.event_id.split("-")
            last_ids[int(number)] = f"{at_ms}-{sequence}"
        return EventBatch(events, EventPosition(tuple(last_ids)), reset)

    def _logs(self) -> range:
        return range(self.partitions + 1)


def _has_gap(last_id: str, oldest: Any, length: int) -> bool:
    """Tell whether entries behind ``last_id`` may have been trimmed: only a log at its bound was ever trimmed."""
    if not oldest or last_id == "0-0" or length < 10_000:
        return False
    return _pair(last_id) < _pair(text(oldest[0][0]))


def _pair(stream_id: str) -> tuple[int, int]:
    at_ms, sequence = stream_id.split("-")
    return int(at_ms), int(sequence)


def _order(event_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in event_id.split("-"))


def _just_before(at_ms: int, sequence: int) -> str:
    return f"{at_ms}-{sequence - 1}" if sequence else f"{max(0, at_ms - 1)}-18446744073709551615"


def _event(partition: int, entry: Any) -> Event:
    stream_id, flat = entry
    fields = {text(name): text(value) for name, value in _pairs(flat)}
    at_ms, _ = _pair(text(stream_id))
    return Event(
        event_id=f"{text(stream_id)}-{partition}",
        at_ms=at_ms,
        event=fields.get("event", ""),
        call_id=fields.get("call", ""),
        session_id=fields.get("session", ""),
        instance_id=fields.get("instance", ""),
        fence=int(fields.get("fence", "0")),
        reason=fields.get("reason", ""),
    )


def _pairs(flat: Any) -> list[tuple[Any, Any]]:
    if isinstance(flat, dict):
        return list(cast("dict[Any, Any]", flat).items())
    return list(zip(flat[::2], flat[1::2], strict=True))
