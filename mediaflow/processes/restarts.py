"""When a program that ended is started again: a doubling pause, and an end to it.

Pure: the supervisor asks, waits and starts.
"""

import signal

import msgspec

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
HEALTHY_AFTER_S = 5.0
"""A program that ran this long had started well: what ended it now is a new matter."""
MOST_FAILURES = 6


class Restarts(msgspec.Struct, frozen=True):
    """How often in a row a program ended soon after its start."""

    failures: int = 0

    def ended(self, ran_s: float) -> "Restarts":
        """Return what to remember of an end after ``ran_s`` seconds of running."""
        return Restarts(1 if ran_s >= HEALTHY_AFTER_S else self.failures + 1)

    @property
    def pause_s(self) -> float | None:
        """Seconds to wait before the next start; None when it is hopeless."""
        if self.failures >= MOST_FAILURES:
            return None
        return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** max(0, self.failures - 1))


def describe_end(status: int) -> str:
    """Say how a process ended, from its exit status (negative: the signal that killed it)."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
