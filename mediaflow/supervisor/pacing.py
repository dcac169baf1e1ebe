"""Doing something so many times at such a rate, with a bound on how much is under way."""

import asyncio
import time
from collections.abc import Awaitable, Callable

MOST_AT_ONCE = 64


async def paced(times: int, rate: float, action: Callable[[int], Awaitable[None]]) -> None:
    """Run ``action(0)`` to ``action(times - 1)``, started ``rate`` a second, and wait for all.

    A start that is late does not move the later ones, so the rate holds over all; when too many are under
    way, though, starts wait.

    Args:
        times: How often.
        rate: Starts a second; 0 starts as fast as the bound allows.
        action: Gets its number; what it raises cancels the others.
    """
    free = asyncio.Semaphore(MOST_AT_ONCE)

    async def one(number: int) -> None:
        try:
            await action(number)
        finally:
            free.release()

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(times):
            if rate > 0:
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            await free.acquire()
            tasks.create_task(one(number))
