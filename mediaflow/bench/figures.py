"""From pairs of figures to a ratio that can be told: medians and spread. Pure."""

import math
from collections.abc import Iterable, Sequence

import msgspec

TIE = 1.3
"""Ratios nearer to 1 than this say nothing: machines of others move by more from one minute to the next."""


class Pair(msgspec.Struct, frozen=True):
    """Two figures that were measured one after the other."""

    ours: float
    other: float


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """A median, and between what the figures lay."""

    median: float
    low: float
    high: float


def quantile(values: Iterable[float], q: float) -> float:
    """Return the value below which a share ``q`` of the values lies, by linear interpolation.

    Raises:
        ValueError: There are no values, or ``q`` is not within 0 and 1.
    """
    ordered = sorted(values)
    if not ordered or not 0 <= q <= 1:
        raise ValueError(f"no quantile {q} of {len(ordered)} values")
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = math.ceil(position)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and greatest of the values.

    Raises:
        ValueError: There are none.
    """
    return Spread(median=quantile(values, 0.5), low=min(values), high=max(values))


def advantage(pair: Pair, better: str) -> float | None:
    """Return how many times better ours is than the other: above 1 is in our favour, whatever is counted.

    None where there is no such number: one of the two is nothing, or less, as memory is that was given back.
    """
    good, bad = (pair.other, pair.ours) if better == "lower" else (pair.ours, pair.other)
    return good / bad if good > 0 and bad > 0 else None


def advantages(pairs: Iterable[Pair], better: str) -> Spread | None:
    """Return the spread of :func:`advantage`, or None where not all pairs have one."""
    found = [advantage(pair, better) for pair in pairs]
    known = [ratio for ratio in found if ratio is not None]
    return spread(known) if known and len(known) == len(found) else None


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return ``p50`` and ``p99`` of durations, in milliseconds."""
    return {"p50": 1000 * quantile(seconds, 0.5), "p99": 1000 * quantile(seconds, 0.99)}
