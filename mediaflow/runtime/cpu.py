"""The load of the processors, for those who want an instance to take no more when they are busy."""

import os
from collections import deque
from pathlib import Path
from typing import NamedTuple

from mediaflow.runtime.clock import Clock, SystemClock

MEASURED_OVER = 5
"""Readings between the two that are compared: one a second gives a mean that no single spike decides."""


class _Reading(NamedTuple):
    """Time spent, and time that there was to spend, of any one unit, since any one moment."""

    busy: float
    available: float


class CpuLoad:
    """Returns how busy the processors were over the last seconds, from 0 to 1: ``MediaApp(load=CpuLoad())``.

    In a container whose processor time is limited (cgroup v2, as Kubernetes sets it by ``resources.limits.cpu``), what
    it used of its limit; else what all programs of the host used, from ``/proc/stat``; where neither is, the
    host's load average over a minute, for each processor.
    """

    def __init__(self, *, root: Path = Path("/"), clock: Clock | None = None) -> None:
        """Measure from now on; ``root`` and ``clock`` are for tests."""
        self._root = root
        self._clock = clock or SystemClock()
        self._readings: deque[_Reading] = deque(maxlen=MEASURED_OVER + 1)
        self._note()

    def __call__(self) -> float:
        """Return the load since the reading before the last few; 0 if no time has passed."""
        if not self._note():
            return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        first, last = self._readings[0], self._readings[-1]
        available = last.available - first.available
        return min(1.0, max(0.0, (last.busy - first.busy) / available)) if available > 0 else 0.0

    def _note(self) -> bool:
        reading = self._of_container() or self._of_host()
        if reading is not None:
            self._readings.append(reading)
        return reading is not None

    def _of_container(self) -> _Reading | None:
        group = self._root / "sys/fs/cgroup"
        try:
            quota, period = (group / "cpu.max").read_text().split()
            used = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
            if quota == "max":
                return None
            limit = int(quota) / int(period)
            return _Reading(int(used["usage_usec"]) / 1e6, self._clock.monotonic_s() * limit)
        except (OSError, ValueError, KeyError, ZeroDivisionError):
            return None

    def _of_host(self) -> _Reading | None:
        try:
            with (self._root / "proc/stat").open() as lines:
                # user nice system idle iowait irq softirq steal; guests are in user already (proc(5)).
                spent = [int(word) for word in next(lines).split()[1:9]]
            return _Reading(sum(spent) - spent[3] - spent[4], sum(spent))
        except (OSError, ValueError, IndexError, StopIteration):
            return None
