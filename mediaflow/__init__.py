"""mediaflow decides who runs a call, and how many streams may run."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mediaflow.api.messages import CallAnswer
    from mediaflow.api.streams import StreamAnswer, StreamList
    from mediaflow.app import MediaApp
    from mediaflow.core.names import IllegalName
    from mediaflow.core.policy import Rule
    from mediaflow.limiter import (
        StreamEnded,
        StreamKeyConflict,
        StreamLimiter,
        StreamRefused,
        StreamThrottled,
        StreamUnknown,
    )
    from mediaflow.runtime.cpu import CpuLoad
    from mediaflow.runtime.oncall import CallRefused, IncomingCall
    from mediaflow.runtime.placing import Draining, KeyConflict, NoFreeSlot, QueueFull
    from mediaflow.runtime.session import LeaseLost, Session
    from mediaflow.settings import Settings, SettingsError
    from mediaflow.store import NamespaceMismatch, StoreError, StoreUnavailable

    __version__: str

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


_HOMES = {
    "mediaflow.api.messages": ("CallAnswer",),
    "mediaflow.api.streams": ("StreamAnswer", "StreamList"),
    "mediaflow.app": ("MediaApp",),
    "mediaflow.core.names": ("IllegalName",),
    "mediaflow.core.policy": ("Rule",),
    "mediaflow.limiter": (
        "StreamEnded",
        "StreamKeyConflict",
        "StreamLimiter",
        "StreamRefused",
        "StreamThrottled",
        "StreamUnknown",
    ),
    "mediaflow.runtime.cpu": ("CpuLoad",),
    "mediaflow.runtime.oncall": ("CallRefused", "IncomingCall"),
    "mediaflow.runtime.placing": ("Draining", "KeyConflict", "NoFreeSlot", "QueueFull"),
    "mediaflow.runtime.session": ("LeaseLost", "Session"),
    "mediaflow.settings": ("Settings", "SettingsError"),
    "mediaflow.store": ("NamespaceMismatch", "StoreError", "StoreUnavailable"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it first is: no program needs all of it, and a command should answer at once."""
    if name == "__version__":
        from importlib.metadata import version

        found: Any = version("mediaflow")
    elif name in _HOME_OF:
        found = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'mediaflow' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Name also what was not asked for yet."""
    return sorted({*globals(), *__all__})
