"""What the console shows of a user's streams: camelCase on the wire, snake_case in Python."""

from typing import Any, Literal

import msgspec


class _Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A body that is written camelCase."""


class PlayingView(_Message, frozen=True, kw_only=True):
    """A live stream, without its id: whoever has that can stop it."""

    device_id: str
    started_at: str
    expires_at: str
    remaining_ms: int
    metadata: dict[str, Any]


class RuleView(_Message, frozen=True, kw_only=True):
    """What one rule counts of the streams that play.

    Attributes:
        rule: What it counts: ``streams`` or ``devices``.
        value: Of the attribute, where it counts by one.
        where: It counts only streams with these attributes.
        full: One more would be refused.
        streams: The streams that it counts, by their place in the list.
    """

    policy: str
    rule: Literal["streams", "devices"]
    attribute: str | None
    value: str | None
    where: dict[str, str | int | float | bool]
    threshold: int
    taken: int
    full: bool
    streams: list[int]


class UserStreams(_Message, frozen=True, kw_only=True):
    """The live streams of a user, oldest first, and what every rule counts; the user's own limit is the first."""

    user_id: str
    limit: int
    active: int
    streams: list[PlayingView]
    rules: list[RuleView]
