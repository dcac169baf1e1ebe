"""SAQ on Redis: a job is handed over by a blocking move; its heartbeat is looked at each second."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from redis.asyncio import Redis

from mediaflow.bench.peers.jobs import CONCURRENCY, Enqueue, Handle, main

_queue_module: Any = import_module("saq.queue.redis")
_worker_module: Any = import_module("saq.worker")

HEARTBEAT_S = 3


class Saq:
    """See :class:`mediaflow.bench.peers.jobs.Queue`."""

    @asynccontextmanager
    async def client(self, url: str) -> AsyncGenerator[Enqueue]:
        """Enqueue jobs that must beat, and are tried again if they do not."""
        queue = _queue(url)
        try:
            yield lambda number: queue.enqueue(
                "job", number=number, timeout=0, heartbeat=HEARTBEAT_S, retries=10, ttl=1
            )
        finally:
            await queue.disconnect()

    async def work(self, url: str, handle: Handle) -> None:
        """Run one worker."""

        async def beat(job: Any) -> None:
            while True:
                await asyncio.sleep(HEARTBEAT_S / 3)
                await job.update()

        async def job(context: Any, *, number: int) -> None:
            beating = asyncio.create_task(beat(context["job"]))
            try:
                await handle(number)
            finally:
                beating.cancel()

        worker = _worker_module.Worker(
            _queue(url), [("job", job)], concurrency=CONCURRENCY, timers={"sweep": 1}
        )
        await worker.start()


def _queue(url: str) -> Any:
    # As many connections as slots wait in a blocking move, and as many again report.
    client: Any = Redis
    return _queue_module.RedisQueue(client.from_url(url, max_connections=4 * CONCURRENCY))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Saq())
