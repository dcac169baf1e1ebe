"""How long something took, and for how much of that the machine kept programs waiting.

A promise in seconds is one about the programs. On a machine that others use as well, programs also wait for a
processor, and none can promise anything about that. So each upper bound on a time is asserted by a
:class:`Stopwatch`. Beside what it times runs a process of its own that naps and does a sum, again and again: by how
much the nap is late, and by how much the sum takes longer than its work is, so much the machine kept it waiting.
Twice that is added to the bound, and told with it: a chain of programs waits at each step, the meter only at its
own. On an idle machine it is next to nothing: there the bound is the promise.
"""

import os
import subprocess
import sys
import time
from typing import NamedTuple, Self

NOT_WORTH_COUNTING_S = 0.002
"""Lost by a round on an idle machine too."""

BESIDE_OTHER_TESTS = 10.0
"""Bounds are this much wider when pytest-xdist runs several tests at once: they keep each other waiting."""

WEIGHT = 2.0
"""How much longer a chain of programs is kept waiting than the meter."""

NAP_S = 0.02

METER = """
import sys, threading, time
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
sum(range(100_000))
print("ready", flush=True)
while not over.is_set():
    began = time.monotonic()
    time.sleep(%r)
    woken, worked = time.monotonic(), time.thread_time()
    sum(range(60_000))
    print(began, woken, time.monotonic(), time.thread_time() - worked)
"""


class Round(NamedTuple):
    """One nap and one sum, by the host's monotonic clock; ``work_s`` is the processor's time for the sum."""

    began_s: float
    woken_s: float
    ended_s: float
    work_s: float

    def lost_s(self, work_s: float) -> float:
        """Return for how long the machine kept it waiting, if ``work_s`` is all that the sum needs."""
        lost_s = self.ended_s - self.began_s - NAP_S - work_s
        return lost_s if lost_s > NOT_WORTH_COUNTING_S else 0.0


class Stopwatch:
    """Times what happens inside ``with``; ask it for the outcome afterwards.

    Attributes:
        began_s: When it was started, by the host's monotonic clock.
        took_s: How long it ran.
    """

    def __init__(self) -> None:
        self._meter = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", METER % NAP_S],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._rounds: list[Round] = []
        self.began_s = 0.0
        self.took_s = 0.0

    def __enter__(self) -> Self:
        assert self._meter.stdout is not None
        self._meter.stdout.readline()
        self.began_s = time.monotonic()
        return self

    def __exit__(self, *failure: object) -> None:
        self.took_s = time.monotonic() - self.began_s
        shown, _ = self._meter.communicate()
        self._rounds = [Round(*map(float, line.split())) for line in shown.splitlines()]

    def kept_waiting_s(self, from_s: float, until_s: float) -> float:
        """Return for how long the machine kept a program waiting between two moments."""
        work_s = min((one.work_s for one in self._rounds), default=0.0)
        return sum(
            one.lost_s(work_s) for one in self._rounds if from_s < one.ended_s and one.began_s < until_s
        )

    def assert_within(
        self, bound_s: float, about: str, *, at_s: float | None = None, idle_s: float = 0.0
    ) -> None:
        """Fail if it took longer than promised, what the machine kept programs waiting for taken off.

        Args:
            bound_s: What is promised, counted from the start.
            about: What was to happen, as the first words of a sentence.
            at_s: When it happened, if that was before the end; by the host's monotonic clock.
            idle_s: For so long from the start there is nothing to do but to wait, so that nothing is lost.
        """
        at_s = self.began_s + self.took_s if at_s is None else at_s
        took_s, lost_s = at_s - self.began_s, self.kept_waiting_s(self.began_s + idle_s, at_s)
        said = (
            f"{about} after {took_s:.3f} s; {bound_s:g} s are promised, "
            f"and {lost_s:.3f} s were lost to a busy machine"
        )
        print(said)
        allowed_s = bound_s * (BESIDE_OTHER_TESTS if "PYTEST_XDIST_WORKER" in os.environ else 1.0)
        assert took_s <= allowed_s + WEIGHT * lost_s, said
