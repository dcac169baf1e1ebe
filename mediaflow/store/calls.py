"""The store as anyone sees it who asks for calls: describe, list, end."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from mediaflow.store.part import Part, text
from mediaflow.store.records import LIVE_STATES, CallPage, CallRecord, SessionRecord, SessionState

SCANNED_CALLS = 500
"""Calls that one page of a list looks at, at most, when it filters by state."""

_SESSION_FIELDS = ("failures", "details", "created_at", "end_reason")


class Calls(Part):
    """Scripts and reads on whole calls."""

    async def cancel(self, call_id: str, reason: str, *, timeout_s: float = 2.0) -> bool:
        """End the live sessions that the call has now; False if the call is not known."""
        call = await self.describe(call_id, timeout_s=timeout_s)
        if call is None:
            return False
        sessions = [session.session_id for session in call.sessions if session.state in LIVE_STATES]
        if not sessions:
            return True
        partition = self._keys.partition_of(call_id)
        reply = await self._ask(
            "cancel",
            partition,
            [
                self._keys.call(partition, call_id),
                self._keys.idempotency(partition, call_id),
                *(self._keys.session(partition, session) for session in sessions),
            ],
            [call_id, reason, *sessions],
            timeout_s=timeout_s,
        )
        return text(reply[0]) != "unknown"

    async def describe(self, call_id: str, *, timeout_s: float = 2.0) -> CallRecord | None:
        """Return the call, or None if it is not known."""
        found = await self._describe_all([call_id], timeout_s)
        return found[0] if found else None

    async def calls(
        self, *, state: SessionState | None, cursor: str | None, limit: int, timeout_s: float = 2.0
    ) -> CallPage:
        """List calls by partition, then by id."""
        partition, after = _parse_cursor(cursor, self.partitions)
        await self._ensure_claimed(timeout_s)
        page: list[CallRecord] = []
        scanned = 0
        while partition < self.partitions and scanned < SCANNED_CALLS:
            wanted = limit - len(page)
            call_ids = await self._names(partition, state, after, wanted, timeout_s)
            scanned += max(1, len(call_ids))
            described = await self._describe_all(call_ids, timeout_s)
            page.extend(call for call in described if state is None or call.state == state)
            if len(call_ids) < wanted:
                partition, after = partition + 1, ""
            else:
                after = call_ids[-1]
            if len(page) >= limit:
                break
        return CallPage(page, _cursor(partition, after) if partition < self.partitions else None)

    async def pending(self, *, timeout_s: float = 2.0) -> int:
        """Count pending sessions of all partitions."""
        await self._ensure_claimed(timeout_s)
        counts = await self._asker.commands(
            [("ZCARD", self._keys.pending(number)) for number in range(self.partitions)], timeout_s=timeout_s
        )
        return sum(int(count) for count in counts)

    async def _names(
        self, partition: int, state: SessionState | None, after: str, limit: int, timeout_s: float
    ) -> list[str]:
        """Return the ids that follow ``after`` in a partition, among them those of all calls in the state."""
        if state not in LIVE_STATES:
            command = ("ZRANGEBYLEX", self._keys.calls(partition), f"({after}" if after else "-", "+")
            (names,) = await self._asker.commands([(*command, "LIMIT", 0, limit)], timeout_s=timeout_s)
            return [text(name) for name in names]
        # Who asks for the live ones shall not have to read all that ended within the retention.
        index = self._keys.leases(partition) if state == "active" else self._keys.pending(partition)
        (members,) = await self._asker.commands([("ZRANGE", index, 0, -1)], timeout_s=timeout_s)
        return sorted({name for member in members if (name := text(member).partition("/")[0]) > after})[
            :limit
        ]

    async def _describe_all(self, call_ids: Sequence[str], timeout_s: float) -> list[CallRecord]:
        """Describe calls in two steps: ownership, then what the session keys hold. Unknown ones are left out."""
        await self._ensure_claimed(timeout_s)
        partitions = [self._keys.partition_of(call_id) for call_id in call_ids]
        ownership = await self._asker.run_many(
            [
                self._call("describe", partition, [self._keys.call(partition, call_id)], [call_id])
                for partition, call_id in zip(partitions, call_ids, strict=True)
            ],
            timeout_s=timeout_s,
        )
        wanted = [
            ("HMGET", self._keys.session(partition, text(record[0])), *_SESSION_FIELDS)
            for partition, records in zip(partitions, ownership, strict=True)
            for record in records
        ]
        details = iter(await self._asker.commands(wanted, timeout_s=timeout_s) if wanted else [])
        found: list[CallRecord] = []
        for call_id, records in zip(call_ids, ownership, strict=True):
            sessions = [_session(record, next(details)) for record in records]
            if sessions:
                sessions.sort(key=lambda session: session.session_id)
                found.append(
                    CallRecord(call_id=call_id, state=call_state(sessions), sessions=tuple(sessions))
                )
        return found


def call_state(sessions: Iterable[SessionRecord]) -> SessionState:
    """Return the state of a call from its sessions, given oldest first.

    Active if one of them is, else pending if one is, else as the newest that did not yield (DESIGN §7).
    """
    states: list[SessionState] = [session.state for session in sessions]
    if "active" in states:
        return "active"
    if "pending" in states:
        return "pending"
    for state in reversed(states):
        if state != "yielded":
            return state
    return "yielded"


def _session(record: Any, kept: Any) -> SessionRecord:
    session_id, state, owner, incarnation, fence, _, remaining_ms = record
    failures, details, created_at, end_reason = kept
    live_state: Any = text(state)
    failed_attempts = int(failures or 0)
    return SessionRecord(
        session_id=text(session_id),
        state=live_state,
        instance_id="" if live_state == "pending" else text(owner),
        incarnation=int(incarnation),
        fence=int(fence),
        attempt=failed_attempts if live_state == "failed" and failed_attempts else failed_attempts + 1,
        lease_remaining_ms=int(remaining_ms),
        details=details or b"{}",
        created_at_ms=int(created_at or 0),
        end_reason=text(end_reason) if end_reason else "",
    )


def _cursor(partition: int, after: str) -> str:
    return base64.urlsafe_b64encode(f"{partition}/{after}".encode()).decode().rstrip("=")


def _parse_cursor(cursor: str | None, partitions: int) -> tuple[int, str]:
    if not cursor:
        return 0, ""
    try:
        decoded = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        decoded = ""
    number, slash, after = decoded.partition("/")
    if not slash or not number.isdecimal() or int(number) >= partitions:
        raise ValueError(f"cursor {cursor[:80]!r} is none that a list of calls gave: begin without one")
    return int(number), after
