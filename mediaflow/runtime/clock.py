"""The clocks that the runtime is handed; the only module that reads the real ones."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for deadlines, one for people and ids."""

    def monotonic_s(self) -> float:
        """Return seconds that never go back and go on while the host sleeps."""
        ...

    def wall_ms(self) -> int:
        """Return milliseconds since the epoch; may jump."""
        ...


class SystemClock:
    """The host's clocks. ``CLOCK_BOOTTIME`` goes on in suspend, where the plain monotonic clock stands still."""

    _BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def monotonic_s(self) -> float:
        """Return seconds since the host was booted."""
        return time.clock_gettime(self._BOOTTIME)

    def wall_ms(self) -> int:
        """Return the host's wall clock."""
        return time.time_ns() // 1_000_000
