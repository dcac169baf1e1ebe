"""Percentiles, and durations as people read them."""

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of all values do not exceed (nearest rank).

    Args:
        values: In any order, at least one.
        share: Within (0, 1], for example 0.99.

    Raises:
        ValueError: There is no value, or ``share`` is outside (0, 1].
    """
    if not values or not 0 < share <= 1:
        raise ValueError(f"percentile {share} of {len(values)} values: give a share of (0, 1] and a value")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def listed(names: Sequence[str], most: int = 4) -> str:
    """Join names for a sentence, at most ``most`` of them."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def count(number: int, noun: str) -> str:
    """Return ``1 call``, ``2 calls``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
