"""What the job queues have in common here: a worker and a client, each a process.

``worker EXPECTED KIND`` runs jobs until it is killed, and says what :class:`~mediaflow.bench.tally.Tally` says.
``client idle NUMBER PAUSE_S`` asks for one job at a time, ``client fill NUMBER`` for all of them; both say ``asked``,
when each was asked for. Before, they ask for one that only says that the worker works, and wait for a line on stdin.
``client trickle NUMBER PAUSE_S`` asks for more of those.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from mediaflow.bench.saying import run, say
from mediaflow.bench.tally import Tally

CONCURRENCY = 100
_ENQUEUERS = 20

Enqueue = Callable[[int], Awaitable[object]]
Handle = Callable[[int], Awaitable[None]]


class Queue(Protocol):
    """One library, at its best documented settings."""

    def client(self, url: str) -> AbstractAsyncContextManager[Enqueue]:
        """Give what enqueues a job by its number."""
        ...

    async def work(self, url: str, handle: Handle) -> None:
        """Run jobs, :data:`CONCURRENCY` at a time, until cancelled."""
        ...


def main(queue: Queue) -> None:
    """Be the process that the command line asks for."""
    url = os.environ["MEDIAFLOW_REDIS_URL"]
    match sys.argv[1:]:
        case ["worker", expected, kind]:
            run(queue.work(url, Tally(int(expected), kind).handle))
        case ["client", "idle", number, pause_s]:
            run(_one_by_one(queue, url, int(number), float(pause_s)))
        case ["client", "trickle", number, pause_s]:
            run(_trickle(queue, url, int(number), float(pause_s)))
        case ["client", "fill", number]:
            run(_fill(queue, url, int(number)))
        case other:
            raise SystemExit(f"no such role: {' '.join(other)}")


async def _one_by_one(queue: Queue, url: str, number: int, pause_s: float) -> None:
    asked: dict[int, float] = {}
    async with queue.client(url) as enqueue:
        await _warm_up(enqueue)
        for one in range(number):
            asked[one] = time.monotonic()
            await enqueue(one)
            await asyncio.sleep(pause_s)
        say(asked=asked)


async def _trickle(queue: Queue, url: str, number: int, pause_s: float) -> None:
    async with queue.client(url) as enqueue:
        for one in range(number):
            await enqueue(-1 - one)
            await asyncio.sleep(pause_s)


async def _warm_up(enqueue: Enqueue) -> None:
    await enqueue(-1)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def _fill(queue: Queue, url: str, number: int) -> None:
    numbers = iter(range(number))
    asked: dict[int, float] = {}

    async def some() -> None:
        for one in numbers:
            asked[one] = time.monotonic()
            await enqueue(one)

    async with queue.client(url) as enqueue:
        await _warm_up(enqueue)
        async with asyncio.TaskGroup() as group:
            for _ in range(_ENQUEUERS):
                group.create_task(some())
        say(asked=asked)
