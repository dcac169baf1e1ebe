"""What happened in a run, as an outsider could have seen it: the only thing that checkers look at.

A history is a list of happenings in the order in which they took place. The simulator writes it, and so do real
workers in the tests with real faults, so that one set of checkers judges both. Times are seconds since the run
began, by a clock that no fault touches.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec


class Happening(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One thing that happened, ``at_s`` seconds into the run."""

    at_s: float


# -- what clients asked, and were told ---------------------------------------------------------------


class Submitted(Happening, frozen=True, kw_only=True):
    """A client asked for a call. ``request`` numbers the attempts; a repeated one has the same ``key``."""

    request: int
    call_id: str
    key: str


class Answered(Happening, frozen=True, kw_only=True):
    """A client was answered; ``status`` 0: it was not, and knows nothing."""

    request: int
    call_id: str
    status: int
    session_id: str = ""
    state: str = ""
    owner: str = ""
    fence: int = 0
    created: bool = False


class EndAsked(Happening, frozen=True, kw_only=True):
    """A client asked to end a call."""

    request: int
    call_id: str


class EndAnswered(Happening, frozen=True, kw_only=True):
    """It was answered: 204, 404, or 0 for no answer."""

    request: int
    call_id: str
    status: int


# -- what handlers did -------------------------------------------------------------------------------


class Started(Happening, frozen=True, kw_only=True):
    """A handler began to run. ``resumed``: the number of the checkpoint it was given, None without one."""

    call_id: str
    session_id: str
    instance_id: str
    incarnation: int
    fence: int
    attempt: int
    resumed: int | None = None


class Stopped(Happening, frozen=True, kw_only=True):
    """A handler that had begun runs no longer. ``reason``: how it left, or ``killed``."""

    call_id: str
    session_id: str
    instance_id: str
    incarnation: int
    reason: str


class Effect(Happening, frozen=True, kw_only=True):
    """A handler had an effect on the world, right after ``session.check()`` if ``checked``."""

    call_id: str
    session_id: str
    instance_id: str
    fence: int
    checked: bool
    what: str = ""


class Wrote(Happening, frozen=True, kw_only=True):
    """Redis accepted a fenced write of a handler: ``number`` is its own count within the session."""

    call_id: str
    session_id: str
    instance_id: str
    incarnation: int
    fence: int
    number: int
    kind: str = "checkpoint"


# -- what Redis held ---------------------------------------------------------------------------------


class Recorded(Happening, frozen=True, kw_only=True):
    """The ownership record of a session is now this; ``script`` made it so, empty where that is not known.

    ``accepted``: its owner has taken it up. ``lease_s``: how long its lease still runs, 0 without a live one;
    ``lease_before_s``: how long it would, had the script not changed it. A record that Redis lost is one with the
    state ``forgotten``.
    """

    call_id: str
    session_id: str
    state: str
    instance_id: str
    incarnation: int
    fence: int
    accepted: bool
    rank: str = ""
    lease_s: float = 0.0
    lease_before_s: float = 0.0
    script: str = ""


# -- what instances were -----------------------------------------------------------------------------


class Joined(Happening, frozen=True, kw_only=True):
    """A process of an instance began; ``process`` counts the processes of that id, from 1."""

    instance_id: str
    process: int
    slots: int


class Left(Happening, frozen=True, kw_only=True):
    """A process ended: ``killed``, ``drained``, ``aborted``."""

    instance_id: str
    process: int
    reason: str


class DrainAsked(Happening, frozen=True, kw_only=True):
    """A process was told to drain."""

    instance_id: str
    process: int


# -- what went wrong ---------------------------------------------------------------------------------


FaultKind = Literal[
    "killed",  # an instance's process; at its end its code runs no more
    "paused",  # its code gets no time
    "resumed",
    "cut",  # from Redis: target instance; detail "requests", "replies" or "both"
    "mended",
    "slowed",  # its way to Redis; detail "requests", "replies" or "both"
    "hastened",
    "unreachable",  # from the balancer
    "reachable",
    "frozen",  # Redis answers nobody
    "thawed",
    "stopped",  # Redis is not there, until it is emptied, rolled back or started again
    "restarted",  # Redis was stopped, and is there again with all that it held
    "emptied",  # Redis restarted with nothing
    "rolled back",  # Redis lost its last writes; detail: how many seconds of them
    "split",  # Redis is two until it is rolled back; detail: how many seconds of writes the older one lacks
    "clock jumped",  # of the host of Redis; detail: by how many seconds
    "watchdog paused",
    "watchdog resumed",
    "watchdog killed",
    "balancer killed",
    "foul weather",  # requests, replies and messages are lost or late, of everyone
    "fair weather",
]


class Fault(Happening, frozen=True, kw_only=True):
    """Something was done to the system."""

    kind: FaultKind
    target: str = ""
    detail: str = ""


class Healed(Happening, frozen=True, kw_only=True):
    """From here on nothing goes wrong any more: liveness is owed."""


# -- how it was at the end ----------------------------------------------------------------------------


class FinalSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session as Redis shows it at the end of the run; ``running_on``: the instances whose handler runs it."""

    session_id: str
    state: str
    instance_id: str
    fence: int
    running_on: tuple[str, ...] = ()


class Final(Happening, frozen=True, kw_only=True):
    """The end of the run, some time after it healed: what Redis holds, and who runs what.

    ``calls``: sessions of each call that Redis knows, oldest first. ``slots``: of each live instance.
    ``running``: handlers that run on each live instance. ``stray_keys``: keys in Redis that belong to nothing.
    """

    calls: dict[str, tuple[FinalSession, ...]]
    slots: dict[str, int]
    running: dict[str, int]
    stray_keys: tuple[str, ...] = ()


AnyHappening = (
    Submitted
    | Answered
    | EndAsked
    | EndAnswered
    | Started
    | Stopped
    | Effect
    | Wrote
    | Recorded
    | Joined
    | Left
    | DrainAsked
    | Fault
    | Healed
    | Final
)


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A promise that a history breaks: which one (``G3``), when, and how in a sentence."""

    guarantee: str
    at_s: float
    message: str


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the checkers have to know of the settings of a run; seconds.

    ``slack_s``: what the machine may add to each bound of time. None in virtual time. ``crash_bound_s``: how soon a
    session moves whose owner's process died, where a watchdog can see that; 0: only its lease tells.
    """

    lease_ttl_s: float
    accept_ttl_s: float
    max_attempts: int
    max_takeovers: int
    clock_cap_s: float = 1.0
    slack_s: float = 0.0
    crash_bound_s: float = 0.0
    retention_s: float = 3600.0


def transcript(history: Iterable[AnyHappening]) -> str:
    """Write a history for people, a line each: time, kind, and what is not at its default."""
    return "\n".join(_line(one) for one in history) + "\n"


def _line(one: AnyHappening) -> str:
    fields = one.__struct_fields__
    defaults = dict(zip(reversed(fields), reversed(one.__struct_defaults__), strict=False))
    shown = [
        f"{name}={value}"
        for name in fields
        if name != "at_s" and (value := getattr(one, name)) != defaults.get(name, _NOTHING)
    ]
    return f"{one.at_s:9.3f}  {type(one).__name__:<12} {' '.join(shown)}"


_NOTHING = object()
