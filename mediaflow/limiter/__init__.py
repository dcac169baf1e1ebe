"""The concurrency service without HTTP: how many streams a user plays at once, and no to one too many."""

from typing import TYPE_CHECKING, Any

from mediaflow.limiter.outcomes import (
    StreamEnded,
    StreamKeyConflict,
    StreamRefused,
    StreamThrottled,
    StreamUnknown,
)

if TYPE_CHECKING:
    from mediaflow.limiter.limiter import StreamLimiter

__all__ = [
    "StreamEnded",
    "StreamKeyConflict",
    "StreamLimiter",
    "StreamRefused",
    "StreamThrottled",
    "StreamUnknown",
]


def __getattr__(name: str) -> Any:
    """Import the limiter when it is first asked for: who only tells of its answers needs nothing that signs."""
    if name == "StreamLimiter":
        from mediaflow.limiter.limiter import StreamLimiter

        return StreamLimiter
    raise AttributeError(f"module 'mediaflow.limiter' has no attribute {name!r}")
