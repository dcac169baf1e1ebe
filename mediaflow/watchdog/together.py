"""Several requests at once, all of which are finished before the first failure is told."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from mediaflow.store import StoreError

CONCURRENT_REQUESTS = 64


async def together(requests: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Make requests concurrently, a bounded number at a time.

    One that fails must not cancel the others: a cancelled request may have happened all the same,
    and what it did would be forgotten.

    Raises:
        StoreError: The first that any of them raised, once all have ended.
    """
    failures: list[StoreError] = []
    turnstile = asyncio.Semaphore(CONCURRENT_REQUESTS)

    async def make(request: Callable[[], Awaitable[None]]) -> None:
        async with turnstile:
            try:
                await request()
            except StoreError as error:
                failures.append(error)

    async with asyncio.TaskGroup() as tasks:
        for request in requests:
            tasks.create_task(make(request))
    if failures:
        raise failures[0]
