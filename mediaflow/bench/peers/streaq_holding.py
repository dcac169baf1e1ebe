"""streaq: a worker that holds as many running jobs as it is asked to; it claims them anew in batches.

It does so at nine tenths of their idle time, which is set so that this is as often as our leases are renewed. Little is
left of it then: a claim that is late by a tenth starts the job a second time.
"""

import asyncio
import logging
import os
import sys
from importlib import import_module
from typing import Any

from mediaflow.bench.saying import run, say

_streaq: Any = import_module("streaq")

_RENEWED_AT = 0.9
_AT_ONCE = 500


async def _main(number: int, ttl_s: float, seconds: float) -> None:
    url = os.environ["MEDIAFLOW_REDIS_URL"]
    worker = _streaq.Worker(redis_url=url, concurrency=number, idle_timeout=ttl_s / 3 / _RENEWED_AT)
    running = 0
    all_run = asyncio.Event()

    @worker.task(name="job", ttl=0, timeout=None)
    async def job(_: int) -> None:
        nonlocal running
        running += 1
        if running >= number:
            all_run.set()
        await asyncio.Event().wait()

    async with worker:
        for first in range(0, number, _AT_ONCE):
            await worker.enqueue_many([job.enqueue(n) for n in range(first, min(first + _AT_ONCE, number))])
    say(holding=0)
    working = asyncio.create_task(worker.run_async())
    await all_run.wait()
    await asyncio.sleep(ttl_s / 3)
    running = 0
    say(window="open")
    await asyncio.sleep(seconds)
    # Those that began within the window ran already: somebody else's time for them was over.
    say(renewed=number * seconds / (ttl_s / 3), lost=running)
    working.cancel()
    await asyncio.wait([working], timeout=5)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run(_main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
