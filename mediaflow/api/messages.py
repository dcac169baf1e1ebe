"""Bodies of the call system's HTTP answers: camelCase on the wire, snake_case in Python."""

from typing import Any

import msgspec

from mediaflow.store import InstanceState, SessionState


class _Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A body that is written camelCase."""


class CallAnswer(_Message, frozen=True, kw_only=True):
    """What ``POST /calls/{callId}`` answers: the session that the call has now.

    Attributes:
        session_id: Sorts by time of creation.
        state: ``active`` when an instance owns it; ``pending`` when it waits for a slot. An answer that
            repeats an earlier one tells the state of now, which may be an ended one.
        owner: Id of the instance that owns it, None while pending.
        fence: Fencing token of the current owner; 0 while it never had one.
        created: True if the request made the session (201), False if the call had one (200).
    """

    call_id: str
    session_id: str
    state: SessionState
    owner: str | None
    fence: int
    created: bool


class SessionView(_Message, frozen=True, kw_only=True):
    """One session of a call, as ``GET /calls/{callId}`` shows it; ``created_at`` is RFC 3339 UTC."""

    session_id: str
    state: SessionState
    owner: str | None
    fence: int
    attempt: int
    lease_remaining_ms: int
    details: Any
    created_at: str
    end_reason: str | None


class CallView(_Message, frozen=True, kw_only=True):
    """A call with its sessions, oldest first."""

    call_id: str
    state: SessionState
    sessions: list[SessionView]


class CallList(_Message, frozen=True, kw_only=True):
    """A page of calls; ``cursor`` asks for the next one, None at the end."""

    calls: list[CallView]
    cursor: str | None


class InstanceView(_Message, frozen=True, kw_only=True):
    """One instance as it last described itself; ``address`` is None for an embedded one.

    Attributes:
        load: How busy it is, from 0 to 1; None if it does not measure that.
        overloaded: It takes nothing new, because its load is above ``load_threshold``.
    """

    instance_id: str
    address: str | None
    slots: int
    used: int
    state: InstanceState
    heartbeat_age_ms: int
    load: float | None = None
    overloaded: bool = False


class InstanceList(_Message, frozen=True, kw_only=True):
    """All live instances, by id."""

    instances: list[InstanceView]


class EventView(_Message, frozen=True, kw_only=True):
    """A change of state; ``at`` is RFC 3339 UTC with milliseconds."""

    id: str
    at: str
    event: str
    call_id: str | None
    session_id: str | None
    instance_id: str | None
    fence: int | None
    reason: str | None


class History(_Message, frozen=True, kw_only=True):
    """The events of a call that the log still holds, oldest first."""

    events: list[EventView]


class Problem(_Message, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details (RFC 9457): what was wrong, with what value, and what to do."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    instance: str | None = None
