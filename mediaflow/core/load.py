"""When an instance is too busy to take more, by a load from 0 to 1 that its user measures.

Invariant: a load that trembles around the threshold does not make the instance open and close: it closes above the
threshold, and opens again only when the load has fallen clearly below it.

Not guaranteed: that the load means anything. Slots bound an instance whatever its load says.
"""

import math
from typing import NamedTuple

OPENS_AGAIN_AT = 0.9
"""The part of the threshold to which the load has to fall."""


class Gate(NamedTuple):
    """Whether an instance takes more, as far as its load goes.

    Attributes:
        closed: It takes nothing new.
        load: What was measured last, None if nothing that can be believed.
    """

    closed: bool = False
    load: float | None = None


def believed(measured: object) -> float | None:
    """Return a measured load, None if it cannot be one; more than full counts as full."""
    if isinstance(measured, bool) or not isinstance(measured, int | float):
        return None
    if math.isnan(measured) or measured < 0:
        return None
    return min(1.0, float(measured))


def step(gate: Gate, load: float | None, threshold: float) -> Gate:
    """Take in a load.

    Args:
        gate: As it was.
        load: From 0 to 1. None: it cannot be known, and then slots are the only bound: a gauge that is broken is
            so on every instance alike, and must not turn all calls away.
        threshold: Above it the gate closes.
    """
    if load is None:
        return Gate()
    if load > threshold:
        return Gate(closed=True, load=load)
    return Gate(closed=gate.closed and load > threshold * OPENS_AGAIN_AT, load=load)
