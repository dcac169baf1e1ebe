"""What an owner knows of one session, stepped by the real :mod:`mediaflow.core.tenure` and ``lease.deadlines``.

A tenure is kept as a few small values, relative to now, and turned into the real thing for each step. Ticks are
seconds: of a deadline it is known at which whole seconds ``session.check()`` still passes.
"""

import math
from functools import cache
from typing import NamedTuple

from simulation.model.partition import CAP, TTL

from mediaflow.core import lease, tenure

RULES = tenure.Rules(ttl_s=TTL, retention_s=3600.0, stop_when_cut_off=False)
STOP_AFTER = math.ceil(lease.deadlines(0.0, TTL).stop_at_s)
"""``session.check()`` passes at the seconds 0 to STOP_AFTER - 1 after a request was sent."""


class Held(NamedTuple):
    """A tenure. ``left``: ticks until its ``stop_at``, at 0 ``session.check()`` raises."""

    fence: int
    left: int
    intent: tenure.Intent
    coroutine: str
    forgotten: bool
    new_fence: bool


class Stepped(NamedTuple):
    """The tenure after a step, None once it has ended, and whether the coroutine is to be started again."""

    held: Held | None
    start: bool


@cache
def begin(fence: int, age: int, extra: int) -> Held:
    """Start after an acceptance that was asked for ``age`` ticks ago; ``actor.py`` asks anew if that is too long.

    ``extra``: by how much the deadline is too late (a mutant).
    """
    begun = _encode(tenure.begin(float(-age), fence, RULES, 0.5), extra)
    return begun if begun.left else step(begun, tenure.LeaseOver()).held or begun


def step(held: Held, event: tenure.Event, extra: int = 0) -> Stepped:
    """Take in an event; a confirmation's ``sent_at_s`` is minus its age."""
    # Events are tuples, and those that say nothing more are equal: a cache must tell them apart.
    return _step(held, type(event), event, extra)


@cache
def _step(held: Held, _: type, event: tenure.Event, extra: int) -> Stepped:
    real = tenure.Tenure(
        fence=held.fence,
        renew_at_s=0.0,
        stop_at_s=float(held.left),
        confirmed_at_s=0.0,
        intent=held.intent,
        coroutine=held.coroutine,  # type: ignore[arg-type]
        forgotten=held.forgotten,
        new_fence=held.new_fence,
        draining=held.intent == "release",
    )
    after, effects = tenure.step(real, event, 0.0, RULES)
    if after.end is not None:
        return Stepped(None, start=False)
    return Stepped(_encode(after, extra if isinstance(event, tenure.Confirmed) else 0), "start" in effects)


@cache
def request(held: Held) -> tenure.Request:
    """Return what the owner asks for next."""
    return tenure.agenda(
        tenure.Tenure(
            fence=held.fence,
            renew_at_s=0.0,
            stop_at_s=float(held.left),
            confirmed_at_s=0.0,
            intent=held.intent,
            coroutine=held.coroutine,  # type: ignore[arg-type]
            forgotten=held.forgotten,
        )
    ).request


def heard(script: str, status: str, fence: int, age: int) -> tenure.Event:
    """Return what an answer means: ``Actor._heard`` and ``Actor._take_written``."""
    if status in ("renewed", "readopted") or (status == "refenced" and script == "renew"):
        return tenure.Confirmed(float(-age), fence, 0.5)
    match status:
        case "refenced":
            return tenure.Refenced(fence)
        case "unknown":
            return tenure.Forgotten()
        case "there":
            return tenure.There(fence)
        case "written":
            return tenure.Ended("completed" if script == "complete" else "drained")
        case "yielded":
            return tenure.Ended("yielded")
        case "cancelled":
            return tenure.Ended("cancelled")
        case _:
            return tenure.Ended("lost")


def _encode(real: tenure.Tenure, extra: int) -> Held:
    left = max(0, math.ceil(real.stop_at_s)) + (extra if real.stop_at_s > 0 else 0)
    if real.coroutine != "running" and real.intent != "release":
        left = 0  # nobody asks until the next confirmation
    return Held(real.fence, left, real.intent, real.coroutine, real.forgotten, real.new_fence)


assert STOP_AFTER == TTL - CAP, "a tick is too coarse for these deadlines"
