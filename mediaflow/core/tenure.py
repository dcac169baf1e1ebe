"""Tenure: what an owner does about one session, as a pure state machine.

``step(tenure, event, now, rules) -> (tenure, effects)`` takes in what happened; ``agenda`` says what to ask
of the store next, and when. The shell around it (:mod:`mediaflow.runtime.actor`) runs the coroutine and
asks the store; it decides nothing.

How it goes, from the owner's side::

    running ──returned──▶ gone, completing ──written──▶ over: completed | yielded | lost
       │  ──raised──────▶ gone, failing    ──written──▶ over: failed
       │  ──drain───────▶ stopped, releasing ─written─▶ over: drained
       │  ──LeaseLost, or stop_at with rule "stop"──▶ stopped ──renewed──▶ running (again, from the checkpoint)
       └──renewal says lost | cancelled | yielded──▶ over, whatever it was doing

Not guaranteed: that the coroutine is not running elsewhere as well; the fence decides whose writes count.
"""

from typing import Literal, NamedTuple

import msgspec

from mediaflow.core import lease

EndReason = Literal["completed", "failed", "lost", "yielded", "cancelled", "drained"]
Intent = Literal["hold", "complete", "fail", "release"]
Effect = Literal["start", "stop"]

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
LEASE_OVER_PAUSE_S = 0.05
"""Before asking again after a LeaseLost: a coroutine that raises it for no reason must not spin."""


class Rules(NamedTuple):
    """The settings that tenure depends on."""

    ttl_s: float
    retention_s: float
    stop_when_cut_off: bool


class Tenure(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner knows of its session.

    Attributes:
        fence: The newest that Redis gave.
        renew_at_s, stop_at_s: Local deadlines, see :func:`mediaflow.core.lease.deadlines`.
        confirmed_at_s: When the request was sent that Redis last confirmed the lease to.
        retry_at_s: Not to ask again before.
        intent: What is to be done once the coroutine is gone.
        coroutine: ``running``; ``stopped``: it would be started again if the lease turns out to be ours, unless
            it was stopped for good; ``gone``: it has returned, raised, or was stopped for good.
        forgotten: Redis does not know the session: it has to be put back first.
        draining: The instance is about to end: what Redis does not hear of before the lease is over is left to it.
        reason: Why the attempt failed.
        end: How it ended; None while it goes on.
    """

    fence: int
    renew_at_s: float
    stop_at_s: float
    confirmed_at_s: float
    retry_at_s: float = 0.0
    intent: Intent = "hold"
    coroutine: Literal["running", "stopped", "gone"] = "running"
    forgotten: bool = False
    new_fence: bool = False
    draining: bool = False
    reason: str = ""
    end: EndReason | None = None


class Confirmed(NamedTuple):
    """Redis confirmed the lease, to a request sent at ``sent_at_s``; ``fence`` is the one that holds now."""

    sent_at_s: float
    fence: int
    spread: float


class Refenced(NamedTuple):
    """A write was told that the fence has changed; nothing was written."""

    fence: int


class Forgotten(NamedTuple):
    """Redis does not know the session."""


class There(NamedTuple):
    """Redis has the session after all, under this fence; how long for is not known."""

    fence: int


class Ended(NamedTuple):
    """Redis says that it is over for this owner."""

    end: EndReason


class Silence(NamedTuple):
    """No answer from the store; what was asked may have happened."""


class Returned(NamedTuple):
    """The coroutine returned."""


class Raised(NamedTuple):
    """The coroutine raised something of its own."""

    reason: str


class LeaseOver(NamedTuple):
    """A LeaseLost left the coroutine."""


class Asked(NamedTuple):
    """Someone hinted that something happened to the session: ask now."""


class ServerChanged(NamedTuple):
    """The server behind the store may not have the same data as before."""


class DrainNow(NamedTuple):
    """The instance gives its sessions away."""


class Tick(NamedTuple):
    """Nothing happened but time."""


Event = (
    Confirmed
    | Refenced
    | Forgotten
    | There
    | Ended
    | Silence
    | Returned
    | Raised
    | LeaseOver
    | Asked
    | ServerChanged
    | DrainNow
    | Tick
)

Request = Literal["renew", "readopt", "complete", "fail", "release"]


class Agenda(NamedTuple):
    """What to ask of the store, not before ``at_s``; ``look_at_s`` is when to look at the clock at the latest."""

    request: Request
    at_s: float
    look_at_s: float


def begin(sent_at_s: float, fence: int, rules: Rules, spread: float) -> Tenure:
    """Return the tenure of a session that was just accepted by a request sent at ``sent_at_s``."""
    renew_at_s, stop_at_s = lease.deadlines(sent_at_s, rules.ttl_s, spread=spread)
    return Tenure(fence=fence, renew_at_s=renew_at_s, stop_at_s=stop_at_s, confirmed_at_s=sent_at_s)


def step(  # noqa: C901, PLR0912 - a flat table, one row an event
    tenure: Tenure, event: Event, now_s: float, rules: Rules
) -> tuple[Tenure, tuple[Effect, ...]]:
    """Take in an event; an ended tenure takes in nothing more."""
    if tenure.end is not None:
        return tenure, ()
    match event:
        case Confirmed():
            return _confirm(tenure, event, now_s, rules)
        case Refenced(fence):
            return msgspec.structs.replace(tenure, fence=max(fence, tenure.fence)), ()
        case Forgotten():
            return _forget(tenure, now_s, rules)
        case There(fence):
            return msgspec.structs.replace(
                tenure,
                fence=max(fence, tenure.fence),
                forgotten=False,
                renew_at_s=min(tenure.renew_at_s, now_s),
                retry_at_s=0.0,
            ), ()
        case Ended(end):
            return msgspec.structs.replace(tenure, end=end), _stop_if_running(tenure)
        case Silence():
            if tenure.draining and now_s >= tenure.stop_at_s:
                # The lease gives away what we cannot: an instance must be able to end while Redis is away.
                return msgspec.structs.replace(tenure, end="lost"), _stop_if_running(tenure)
            pause_s = lease.retry_after_s(now_s, tenure.stop_at_s, rules.ttl_s)
            return _lapse(msgspec.structs.replace(tenure, retry_at_s=now_s + pause_s), now_s, rules)
        case Returned():
            return _leave(tenure, "complete", "")
        case Raised(reason):
            return _leave(tenure, "fail", reason)
        case DrainNow():
            tenure = msgspec.structs.replace(tenure, draining=True)
            if tenure.coroutine == "gone":
                return tenure, ()
            left, _ = _leave(tenure, "release", "")
            return left, _stop_if_running(tenure)
        case LeaseOver():
            if tenure.intent != "hold":
                return msgspec.structs.replace(tenure, coroutine="gone"), ()
            return msgspec.structs.replace(
                tenure,
                coroutine="stopped",
                new_fence=True,
                renew_at_s=now_s,
                retry_at_s=now_s + LEASE_OVER_PAUSE_S,
            ), ()
        case Asked():
            return msgspec.structs.replace(
                tenure, renew_at_s=min(tenure.renew_at_s, now_s), retry_at_s=0.0
            ), ()
        case ServerChanged():
            return msgspec.structs.replace(
                tenure, new_fence=True, renew_at_s=min(tenure.renew_at_s, now_s)
            ), ()
        case Tick():
            return _lapse(tenure, now_s, rules)


def is_held(tenure: Tenure) -> bool:
    """Tell whether the session is held and runs, and there is nothing to be done about it but to renew its lease."""
    return (
        tenure.coroutine == "running"
        and tenure.intent == "hold"
        and not (tenure.forgotten or tenure.new_fence)
        and tenure.end is None
    )


def is_due(tenure: Tenure, now_s: float) -> bool:
    """Tell whether a renewal is due, plainly: then a :class:`Tick` changes nothing."""
    return is_held(tenure) and tenure.renew_at_s <= now_s < tenure.stop_at_s and tenure.retry_at_s <= now_s


def renewed(tenure: Tenure, sent_at_s: float, until: lease.Deadlines) -> Tenure:
    """Take in that the lease :func:`is_held`, and was renewed in time: what ``step`` does for :class:`Confirmed`.

    Args:
        tenure: Before; ``is_held``.
        sent_at_s: When the request was sent that Redis confirmed.
        until: The deadlines that follow from that; the time is before ``stop_at_s``.
    """
    return msgspec.structs.replace(
        tenure,
        renew_at_s=until.renew_at_s,
        stop_at_s=until.stop_at_s,
        confirmed_at_s=sent_at_s,
        retry_at_s=0.0,
    )


def agenda(tenure: Tenure) -> Agenda:
    """Say what to ask next. Giving a session up goes before renewing it: the sooner another can have it."""
    look_at_s = tenure.stop_at_s
    if tenure.forgotten:
        return Agenda("readopt", tenure.retry_at_s, look_at_s)
    if tenure.intent == "hold" or tenure.coroutine != "gone":
        return Agenda("renew", max(tenure.renew_at_s, tenure.retry_at_s), look_at_s)
    return Agenda(tenure.intent, tenure.retry_at_s, look_at_s)


def backoff_s(attempt: int) -> float:
    """Return the pause before the attempt that follows a failed ``attempt`` (1 for the first)."""
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(attempt - 1, 10))


def _confirm(
    tenure: Tenure, event: Confirmed, now_s: float, rules: Rules
) -> tuple[Tenure, tuple[Effect, ...]]:
    renew_at_s, stop_at_s = lease.deadlines(event.sent_at_s, rules.ttl_s, spread=event.spread)
    held = msgspec.structs.replace(
        tenure,
        # An owner never takes a lower fence: an answer may have been overtaken by a later one.
        fence=max(event.fence, tenure.fence),
        renew_at_s=renew_at_s,
        stop_at_s=stop_at_s,
        confirmed_at_s=event.sent_at_s,
        retry_at_s=0.0,
        forgotten=False,
        new_fence=False,
    )
    if now_s >= stop_at_s:
        # The answer arrived after its own deadline: it starts nothing, and is asked for again.
        return _lapse(msgspec.structs.replace(held, renew_at_s=now_s), now_s, rules)
    if held.coroutine == "stopped" and held.intent == "hold":
        return msgspec.structs.replace(held, coroutine="running"), ("start",)
    return held, ()


def _forget(tenure: Tenure, now_s: float, rules: Rules) -> tuple[Tenure, tuple[Effect, ...]]:
    if now_s - tenure.confirmed_at_s >= rules.retention_s:
        # So long ago that the tombstone of a session that ended elsewhere may have vanished since.
        return msgspec.structs.replace(tenure, end="lost"), _stop_if_running(tenure)
    return msgspec.structs.replace(tenure, forgotten=True, retry_at_s=0.0), ()


def _lapse(tenure: Tenure, now_s: float, rules: Rules) -> tuple[Tenure, tuple[Effect, ...]]:
    if now_s < tenure.stop_at_s or not rules.stop_when_cut_off or tenure.coroutine != "running":
        return tenure, ()
    return msgspec.structs.replace(tenure, coroutine="stopped", new_fence=True), ("stop",)


def _leave(tenure: Tenure, intent: Intent, reason: str) -> tuple[Tenure, tuple[Effect, ...]]:
    if tenure.intent != "hold":
        # It was being stopped for another reason already; how it left does not matter any more.
        return msgspec.structs.replace(tenure, coroutine="gone"), ()
    gone = intent != "release" or tenure.coroutine == "stopped"
    return msgspec.structs.replace(
        tenure,
        intent=intent,
        reason=reason,
        coroutine="gone" if gone else tenure.coroutine,
        retry_at_s=0.0,
    ), ()


def _stop_if_running(tenure: Tenure) -> tuple[Effect, ...]:
    return ("stop",) if tenure.coroutine == "running" else ()
