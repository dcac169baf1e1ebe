"""Why a stream may not play: what :class:`~mediaflow.limiter.StreamLimiter` raises."""

from mediaflow.api.streams import Advice, Conflict, Terminator


class StreamRefused(Exception):
    """One stream too many; nothing was changed.

    Attributes:
        limit, active: How many streams (or devices) the user may have, and has.
        conflicts: The streams in the way.
        advice: The rules that were violated.
    """

    def __init__(self, limit: int, active: int, conflicts: list[Conflict], advice: list[Advice]) -> None:
        """Say what is in the way."""
        rules = ", ".join(f"{one.policy} allows {one.threshold} {one.rule}" for one in advice)
        super().__init__(
            f"one stream too many: {rules}; end one of {len(conflicts)} in the way, or let it end"
        )
        self.limit = limit
        self.active = active
        self.conflicts = conflicts
        self.advice = advice


class StreamEnded(Exception):
    """The stream is over.

    Attributes:
        reason: ``expired``, ``stopped`` or ``taken_over``.
        terminated_by: Who took its place, None unless it was taken over.
    """

    def __init__(self, reason: str, terminated_by: Terminator | None) -> None:
        """Say why it is over."""
        by = f" by device {terminated_by.device_id}" if terminated_by else ""
        super().__init__(f"the stream has ended: {reason.replace('_', ' ')}{by}")
        self.reason = reason
        self.terminated_by = terminated_by


class StreamUnknown(Exception):
    """No stream of this user ever had this id."""


class StreamKeyConflict(Exception):
    """The idempotency key was used with another request."""


class StreamThrottled(Exception):
    """Too many requests within a minute.

    Attributes:
        retry_after_s: When to try again.
    """

    def __init__(self, scope: str, limit: int, retry_after_s: float) -> None:
        """Say what is throttled."""
        super().__init__(
            f"more than {limit} requests within a minute for this {scope}: try again in {retry_after_s:.0f} s"
        )
        self.retry_after_s = retry_after_s
