"""The owner's own view of its lease: when to renew it, and from when on to distrust it.

Invariants: deadlines are derived from a clock reading taken *before* the request was sent, so
a slow answer only shortens our view; they never reach the moment at which Redis may give the
session away.

Not guaranteed: that no second owner exists. A paused process can run past ``stop_at_s``; the
fence check inside each script closes that gap.
"""

from typing import NamedTuple

CLOCK_DRIFT = 0.001
"""Largest difference of clock rates that we allow for: five times what quartz crystals are specified to."""

MIN_TTL_S = 3.0
"""Shortest lease; three times the cap, so that an owner keeps most of what it is granted."""

LEASE_CLOCK_CAP_S = 1.0
"""Largest step of a partition's lease clock between two scripts (DESIGN §5, lease time)."""


class Deadlines(NamedTuple):
    """Local deadlines of one renewal, in seconds of the same clock as ``sent_at_s``."""

    renew_at_s: float
    stop_at_s: float


def margin_s(ttl_s: float) -> float:
    """Return the allowance for stopping user code: a twentieth of the lease, and at least 0.1 s."""
    return max(0.1, ttl_s / 20)


def deadlines(sent_at_s: float, ttl_s: float, *, spread: float = 0.5) -> Deadlines:
    """Derive the owner's local deadlines from one successful renewal.

    Args:
        sent_at_s: Time of a clock that goes on while the host sleeps, read *before* the request was sent.
        ttl_s: Lifetime that Redis granted, in seconds of lease time.
        spread: Within [0, 1]; moves ``renew_at_s`` by up to a tenth of the interval either way, so that
            sessions started together do not renew together for ever.

    Returns:
        ``sent_at_s < renew_at_s < stop_at_s < sent_at_s + ttl_s - cap``.

    Raises:
        ValueError: ``ttl_s`` is below the shortest lease, or ``spread`` is outside [0, 1].

    The cap of lease time is given away because a partition's clock may run ahead of real time by as
    much, once, after it stood still. (Gray & Cheriton 1989, §2; Kleppmann 2016 on fencing tokens.)
    """
    if ttl_s < MIN_TTL_S:
        raise ValueError(f"lease of {ttl_s} s: use {MIN_TTL_S} s or more")
    if not 0 <= spread <= 1:
        raise ValueError(f"spread = {spread}: use 0 to 1")
    stop_after_s = (ttl_s - LEASE_CLOCK_CAP_S - margin_s(ttl_s)) / (1 + CLOCK_DRIFT)
    renew_after_s = ttl_s / 3 * (0.9 + 0.2 * spread)
    return Deadlines(sent_at_s + renew_after_s, sent_at_s + stop_after_s)


def spread_towards(place: float, sent_at_s: float, ttl_s: float) -> float:
    """Return the spread that brings a lease's next renewal nearest to its place in the interval.

    Args:
        place: Within [0, 1): where in each interval the lease is to be renewed. Leases of one place come together
            within a few renewals, however they began, and go out in one request; places are told from each other.
        sent_at_s: When the request was sent that the next renewal is counted from.
        ttl_s: Lifetime that Redis granted.
    """
    ahead = (place - sent_at_s / (ttl_s / 3)) % 1.0
    return min(1.0, max(0.0, 0.5 + (ahead if ahead < 0.5 else ahead - 1.0) / 0.2))


def retry_after_s(now_s: float, stop_at_s: float, ttl_s: float) -> float:
    """Return how long to wait after a failed renewal: short enough for several tries before ``stop_at_s``.

    Past ``stop_at_s`` (an owner that keeps going) the tries go on at a tenth of the lease.
    """
    left_s = stop_at_s - now_s
    if left_s <= 0:
        return ttl_s / 10
    return max(0.05, min(ttl_s / 10, left_s / 3))
