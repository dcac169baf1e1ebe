"""What the handler of every contestant does: note when it began, take its time, and tell when the last one did."""

import asyncio
import time

from mediaflow.bench.saying import say

NAP = "nap"
"""A job of 0 to 10 ms, by its number."""
HOLD = "hold"
"""A job that goes on until its process is killed."""
NOTHING = "nothing"
"""A job that returns at once."""


class Tally:
    """Counts the jobs of one process, by number.

    It says ``began`` (when each began) and ``most`` (how many ran at once) when as many as are expected have begun,
    and ``ran_s`` (from the first's begin to the last's end) when as many have ended.
    """

    def __init__(self, expected: int, kind: str) -> None:
        """Expect so many jobs of a kind."""
        self._expected = expected
        self._kind = kind
        self._began: dict[int, float] = {}
        self._ended = 0
        self._running = 0
        self._most = 0

    async def handle(self, number: int) -> None:
        """Be a job; one of a negative number only says that it was here, and does not count."""
        if number < 0:
            say(warm=True)
            return
        self._running += 1
        self._most = max(self._most, self._running)
        if number not in self._began:
            self._began[number] = time.monotonic()
            if len(self._began) == self._expected:
                say(began=self._began, most=self._most)
        try:
            await self._take_time(number)
        finally:
            self._running -= 1
        self._ended += 1
        if self._ended == self._expected:
            say(ran_s=time.monotonic() - min(self._began.values()))

    async def _take_time(self, number: int) -> None:
        if self._kind == HOLD:
            await asyncio.Event().wait()
        elif self._kind == NAP:
            await asyncio.sleep(nap_s(number))


def nap_s(number: int) -> float:
    """Return how long a job of 0 to 10 ms takes: by its number, so that all contestants have the same."""
    return number * 7919 % 1000 / 100_000
