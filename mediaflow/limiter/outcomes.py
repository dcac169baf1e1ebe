"""Why a stream may not play: what :class:`~mediaflow.limiter.StreamLimiter` raises."""

from mediaflow.api.streams import Advice, Conflict, Terminator


class StreamRefused(Exception):
    """One stream too many; nothing was changed.

    Attributes:
        limit, active: How many streams (or devices) the user may have, and has.
        conflicts: The streams in the way, each with a code that ends it when a start brings it in ``terminate``.
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
    """The stream is over, and playback has to stop. Nothing but a new start brings it back.

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
    """No stream of this user ever had this id: it was made up, or is another user's."""


class StreamKeyConflict(Exception):
    """The idempotency key was used with another request. Nothing was changed: take a new key."""


class StreamThrottled(Exception):
    """More requests within a minute than ``stream_throttle`` allows; nothing was changed.

    Attributes:
        retry_after_s: Seconds after which there is room again.
    """

    def __init__(self, scope: str, limit: int, retry_after_s: float) -> None:
        """Say what is throttled."""
        super().__init__(
            f"more than {limit} requests within a minute for this {scope}: try again in {retry_after_s:.0f} s"
        )
        self.retry_after_s = retry_after_s
