"""Bodies of the concurrency service: camelCase on the wire, snake_case in Python."""

from typing import Annotated, Any, Literal

import msgspec

from mediaflow.api.messages import Problem

OnLimit = Literal["reject", "stop_oldest"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A body that is written camelCase."""


class StartRequest(_Message, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a player sends to begin a playback.

    Attributes:
        device_id: Names the device; streams of one device may count as one (``count_by``).
        metadata: Attributes that rules look at (``channel``, ``contentType``, …) and that conflicts show.
        on_limit: With one stream too many: refuse this one, or end the ones that were started first.
        terminate: Termination codes from a refusal, of streams to end in the same step.
        replaces: A stream of the same user that this one takes the place of.
    """

    device_id: Annotated[
        str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[^\u0000-\u001f\u007f-\u009f]+$")
    ]
    metadata: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    on_limit: OnLimit = "reject"
    terminate: Annotated[list[str], msgspec.Meta(max_length=100)] = msgspec.field(default_factory=list[str])
    replaces: Annotated[str, msgspec.Meta(max_length=4096)] | None = None


class StreamAnswer(_Message, frozen=True, kw_only=True):
    """A stream that may play on; what start and heartbeat answer.

    Attributes:
        limit, active: How many streams (or devices) the user may have, and has.
        expires_at: RFC 3339 UTC; ``ttl_ms`` says the same as a duration, for clients whose clock is off.
        ttl_ms: How long the stream lives unless it is heard of, in milliseconds.
        heartbeat_interval_ms: How often it is to be heard of, in milliseconds.
        token: A signed JWT, or None while no key is known, and with ``stream_tokens`` off.
        degraded: Redis is away: nothing was counted.
    """

    stream_id: str
    user_id: str
    device_id: str
    limit: int
    active: int
    expires_at: str
    ttl_ms: int
    heartbeat_interval_ms: int
    token: str | None
    degraded: bool


class Conflict(_Message, frozen=True, kw_only=True):
    """A stream in the way of a refused one; its code ends it, once."""

    termination_code: str
    device_id: str
    started_at: str
    metadata: dict[str, Any]


class Advice(_Message, frozen=True, kw_only=True):
    """A rule that was violated.

    Attributes:
        policy: Its name in the settings; ``user`` for the limit of the user.
        rule: What it counts: ``streams`` or ``devices``.
        attribute: The attribute by whose value it counts, None if it counts all.
        threshold: How many it allows.
        termination_codes: The conflicts of this rule.
    """

    policy: str
    rule: Literal["streams", "devices"]
    attribute: str | None
    threshold: int
    termination_codes: list[str]


class Refusal(Problem, frozen=True, kw_only=True):
    """One stream too many (409)."""

    limit: int
    active: int
    conflicts: list[Conflict]
    advice: list[Advice]


class Terminator(_Message, frozen=True, kw_only=True):
    """Who ended a stream."""

    device_id: str
    at: str


class Ended(Problem, frozen=True, kw_only=True):
    """A stream that is over (410); ``terminated_by`` is None unless another stream took its place."""

    terminated_by: Terminator | None


class StreamView(_Message, frozen=True, kw_only=True):
    """A live stream of a user."""

    stream_id: str
    device_id: str
    started_at: str
    expires_at: str
    metadata: dict[str, Any]


class StreamList(_Message, frozen=True, kw_only=True):
    """The live streams of a user.

    Attributes:
        limit, active: How many streams (or devices) the user may have, and has.
        streams: Oldest first.
    """

    limit: int
    active: int
    streams: list[StreamView]


class LimitRequest(_Message, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many streams a user may play at once, from now on; None goes back to the setting."""

    limit: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None
