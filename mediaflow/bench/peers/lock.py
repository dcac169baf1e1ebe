"""redis-py's ``Lock``, one a session, each extended by a task of its own each third of its life.

As its documentation has it, but for the pool, which waits for a connection where the default one raises.
"""

import asyncio
import os
import random
import sys
import time
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import LockError

from mediaflow.bench.saying import run, say

CONNECTIONS = 50


class Held:
    """One lock, and the task's view of it."""

    def __init__(self, client: Any, number: int, ttl_s: float) -> None:
        self._lock = client.lock(f"lock:{number}", timeout=ttl_s, thread_local=False, blocking=False)
        self._ttl_s = ttl_s
        self._granted_at_s = 0.0

    async def acquire(self) -> None:
        """Take it."""
        self._granted_at_s = time.monotonic()
        await self._lock.acquire()

    async def keep(self, tally: "Tally") -> None:
        """Extend it each third of its life, until cancelled or lost."""
        await asyncio.sleep(random.uniform(0, self._ttl_s / 3))  # noqa: S311 - spread, so that there is no pulse
        while True:
            asked_at_s = time.monotonic()
            try:
                await self._lock.extend(self._ttl_s, replace_ttl=True)
            except LockError:
                tally.lost += 1
                return
            tally.extended += 1
            tally.least_left_s = min(tally.least_left_s, self._granted_at_s + self._ttl_s - time.monotonic())
            self._granted_at_s = asked_at_s
            await asyncio.sleep(max(0.0, asked_at_s + self._ttl_s / 3 - time.monotonic()))


class Tally:
    """What all locks came to within the window."""

    def __init__(self, ttl_s: float) -> None:
        self.extended = 0
        self.lost = 0
        self.least_left_s = ttl_s


async def _main(number: int, ttl_s: float, seconds: float) -> None:
    pools: Any = BlockingConnectionPool  # half of its types are unknown
    url = os.environ["MEDIAFLOW_REDIS_URL"]
    client = Redis(connection_pool=pools.from_url(url, max_connections=CONNECTIONS, timeout=None))
    say(holding=0)
    held = [Held(client, n, ttl_s) for n in range(number)]
    tally = Tally(ttl_s)
    async with asyncio.TaskGroup() as group:
        keeping: list[asyncio.Task[None]] = []
        for first in range(0, number, 200):  # the first shall not lapse while the last are being taken
            some = held[first : first + 200]
            await asyncio.gather(*(one.acquire() for one in some))
            keeping += [group.create_task(one.keep(tally)) for one in some]
        await asyncio.sleep(ttl_s / 3)
        tally.extended, tally.least_left_s = 0, ttl_s
        say(window="open")
        await asyncio.sleep(seconds)
        say(renewed=tally.extended, lost=tally.lost, least_left_s=tally.least_left_s)
        for task in keeping:
            task.cancel()
    await client.aclose()


if __name__ == "__main__":
    run(_main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
