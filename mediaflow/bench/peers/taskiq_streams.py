"""taskiq on Redis streams (taskiq-redis), acknowledged after the job, without a result backend."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from mediaflow.bench.peers.jobs import CONCURRENCY, Enqueue, Handle, main

_taskiq: Any = import_module("taskiq.api")
_redis: Any = import_module("taskiq_redis")

IDLE_TIMEOUT_MS = 5000
"""After so long an unacknowledged job is taken for lost: it has to be above what jobs take, for nothing renews it."""


class Taskiq:
    """See :class:`mediaflow.bench.peers.jobs.Queue`."""

    @asynccontextmanager
    async def client(self, url: str) -> AsyncGenerator[Enqueue]:
        """Enqueue by XADD."""
        broker, job = _broker(url, _nobody)
        await broker.startup()
        try:
            yield job.kiq
        finally:
            await broker.shutdown()

    async def work(self, url: str, handle: Handle) -> None:
        """Run one receiver."""
        broker, _ = _broker(url, handle)
        await _taskiq.run_receiver_task(
            broker, run_startup=True, max_async_tasks=CONCURRENCY, validate_params=False
        )


def _broker(url: str, handle: Handle) -> tuple[Any, Any]:
    broker = _redis.RedisStreamBroker(
        url, idle_timeout=IDLE_TIMEOUT_MS, unacknowledged_lock_timeout=1.0, xread_block=500
    )

    @broker.task(task_name="job")
    async def job(number: int) -> None:
        await handle(number)

    return broker, job


async def _nobody(number: int) -> None:
    raise AssertionError(number)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(Taskiq())
