"""streaq: Redis streams by way of coredis; running jobs are claimed again in batches, well within their idle time."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from mediaflow.bench.peers.jobs import CONCURRENCY, Enqueue, Handle, main

_streaq: Any = import_module("streaq")

IDLE_TIMEOUT_S = 1


class Streaq:
    """See :class:`mediaflow.bench.peers.jobs.Queue`."""

    @asynccontextmanager
    async def client(self, url: str) -> AsyncGenerator[Enqueue]:
        """Enqueue one job at a time."""
        worker, job = _worker(url, _nobody)

        async def enqueue(number: int) -> None:
            await job.enqueue(number)

        async with worker:
            yield enqueue

    async def work(self, url: str, handle: Handle) -> None:
        """Run one worker."""
        worker, _ = _worker(url, handle)
        await worker.run_async()


def _worker(url: str, handle: Handle) -> tuple[Any, Any]:
    worker = _streaq.Worker(redis_url=url, concurrency=CONCURRENCY, idle_timeout=IDLE_TIMEOUT_S)

    @worker.task(name="job", ttl=0, timeout=None)
    async def job(number: int) -> None:
        await handle(number)

    return worker, job


async def _nobody(number: int) -> None:
    raise AssertionError(number)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Streaq())
