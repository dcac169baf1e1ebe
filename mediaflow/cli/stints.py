"""From a call's history to who owned each of its sessions, from when to when, and why it moved. Pure."""

from collections.abc import Sequence

import msgspec

from mediaflow.api.messages import EventView
from mediaflow.cli.drawing import moment

_BEGINS = frozenset({"session.activated", "session.handoff", "session.takeover", "session.readopted"})
_ENDS = frozenset(
    {"session.pending", "session.completed", "session.failed", "session.cancelled", "session.yielded"}
)


class Stint(msgspec.Struct, kw_only=True, rename="camel"):
    """The time for which one instance owned a session.

    Attributes:
        began: Why it became its: ``created``, ``takeover``, ``handoff``, …
        until: None while it goes on.
        duration_ms: None while it goes on: only Redis knows what time it is there.
        ended: Why it ended; empty while it goes on.
    """

    session_id: str
    instance_id: str
    fence: int
    since: str
    began: str
    until: str | None = None
    duration_ms: int | None = None
    ended: str = ""


def stints(events: Sequence[EventView]) -> list[Stint]:
    """Return the stints of a call's sessions in the order in which they began."""
    found: list[Stint] = []
    running: dict[str, Stint] = {}
    for event in events:
        session = event.session_id or ""
        if event.event in _BEGINS:
            if previous := running.get(session):
                _end(previous, event)
            running[session] = Stint(
                session_id=session,
                instance_id=event.instance_id or "",
                fence=event.fence or 0,
                since=event.at,
                began=event.reason or event.event.removeprefix("session."),
            )
            found.append(running[session])
        elif event.event in _ENDS and session in running:
            _end(running.pop(session), event)
    return found


def _end(stint: Stint, event: EventView) -> None:
    stint.until = event.at
    stint.duration_ms = round((moment(event.at) - moment(stint.since)).total_seconds() * 1000)
    stint.ended = event.reason or event.event.removeprefix("session.")
