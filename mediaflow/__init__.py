"""mediaflow decides who runs a call, and how many streams may run."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mediaflow.api.messages import CallAnswer
from mediaflow.api.streams import StreamAnswer, StreamList
from mediaflow.app import MediaApp
from mediaflow.core.names import IllegalName
from mediaflow.core.policy import Rule
from mediaflow.runtime.cpu import CpuLoad
from mediaflow.runtime.oncall import CallRefused, IncomingCall
from mediaflow.runtime.placing import Draining, KeyConflict, NoFreeSlot, QueueFull
from mediaflow.runtime.session import LeaseLost, Session
from mediaflow.settings import Settings, SettingsError
from mediaflow.store import NamespaceMismatch, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from mediaflow.limiter import (
        StreamEnded,
        StreamKeyConflict,
        StreamLimiter,
        StreamRefused,
        StreamThrottled,
        StreamUnknown,
    )

__version__ = version("mediaflow")

__all__ = [
    "CallAnswer",
    "CallRefused",
    "CpuLoad",
    "Draining",
    "IllegalName",
    "IncomingCall",
    "KeyConflict",
    "LeaseLost",
    "MediaApp",
    "NamespaceMismatch",
    "NoFreeSlot",
    "QueueFull",
    "Rule",
    "Session",
    "Settings",
    "SettingsError",
    "StoreError",
    "StoreUnavailable",
    "StreamAnswer",
    "StreamEnded",
    "StreamKeyConflict",
    "StreamLimiter",
    "StreamList",
    "StreamRefused",
    "StreamThrottled",
    "StreamUnknown",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import the limiter when it is first asked for: calls do not need what it signs with, which takes long to load."""
    if name.startswith("Stream") and name in __all__:
        from mediaflow import limiter

        found = globals()[name] = getattr(limiter, name)
        return found
    raise AttributeError(f"module 'mediaflow' has no attribute {name!r}")
