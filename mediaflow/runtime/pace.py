"""How often something happens now, out of a count that only grows."""

from collections import deque

SPAN_S = 5.0
"""What is averaged over: renewals come in bursts, which go out together."""

STEP_S = 0.5
"""Readings that are closer together are not kept, so that their number has a bound."""

LEAST_S = 1.0


class Pace:
    """Measures a rate over the last :data:`SPAN_S` seconds."""

    def __init__(self) -> None:
        """Begin without a reading."""
        self._readings: deque[tuple[float, int]] = deque()

    def read(self, now_s: float, count: int) -> float:
        """Take up a reading, and return how much was added a second since one of about five seconds ago.

        Right after the beginning, what was added counts as having taken :data:`LEAST_S`: one event in the first
        millisecond is no thousand a second.

        Args:
            now_s: By a clock that never goes back.
            count: How much there was until now.
        """
        readings = self._readings
        if not readings or now_s - readings[-1][0] >= STEP_S:
            readings.append((now_s, count))
        while len(readings) > 1 and now_s - readings[1][0] >= SPAN_S:
            readings.popleft()
        since_s, before = readings[0]
        return (count - before) / max(LEAST_S, now_s - since_s)
