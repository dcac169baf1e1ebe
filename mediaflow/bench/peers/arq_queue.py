"""arq: a sorted set that is polled, here each 10 ms; a job whose worker died is tried again after its time-out."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from mediaflow.bench.peers.jobs import CONCURRENCY, Enqueue, Handle, main

_arq: Any = import_module("arq")
_connections: Any = import_module("arq.connections")
_worker: Any = import_module("arq.worker")

POLL_DELAY_S = 0.01
JOB_TIMEOUT_S = 5
"""No job may take longer, and none is tried again sooner: what decides how fast a crash is noticed."""


class Arq:
    """See :class:`mediaflow.bench.peers.jobs.Queue`."""

    @asynccontextmanager
    async def client(self, url: str) -> AsyncGenerator[Enqueue]:
        """Enqueue one job at a time."""
        pool = await _arq.create_pool(_connections.RedisSettings.from_dsn(url))
        try:
            yield lambda number: pool.enqueue_job("job", number)
        finally:
            await pool.aclose()

    async def work(self, url: str, handle: Handle) -> None:
        """Run one worker."""

        async def job(_: Any, number: int) -> None:
            await handle(number)

        worker = _worker.Worker(
            [_worker.func(job, name="job")],
            redis_settings=_connections.RedisSettings.from_dsn(url),
            max_jobs=CONCURRENCY,
            poll_delay=POLL_DELAY_S,
            job_timeout=JOB_TIMEOUT_S,
            keep_result=0,
            log_results=False,
        )
        await worker.async_run()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Arq())
