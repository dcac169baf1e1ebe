"""The concurrency service without HTTP: how many streams a user plays at once, and no to one too many."""

from mediaflow.limiter.limiter import StreamLimiter
from mediaflow.limiter.outcomes import (
    StreamEnded,
    StreamKeyConflict,
    StreamRefused,
    StreamThrottled,
    StreamUnknown,
)

__all__ = [
    "StreamEnded",
    "StreamKeyConflict",
    "StreamLimiter",
    "StreamRefused",
    "StreamThrottled",
    "StreamUnknown",
]
