"""Sessions of 0 to 10 ms, started, run and finished by one embedded app that keeps its 100 slots busy."""

import asyncio
import os
import sys
import time

from mediaflow import MediaApp, Session
from mediaflow.bench.saying import run, say
from mediaflow.bench.tally import nap_s

SLOTS = 100


async def _main(number: int) -> None:
    app = MediaApp(slots=SLOTS, redis=os.environ["MEDIAFLOW_REDIS_URL"], admission="reject")
    ran = 0

    @app.session
    async def handle(session: Session) -> None:  # pyright: ignore[reportUnusedFunction]
        nonlocal ran
        await asyncio.sleep(nap_s(int(session.call_id)))
        ran += 1

    async with app:
        first = time.monotonic()
        async with asyncio.TaskGroup() as group:
            asked = 0
            while asked < number:
                for _ in range(min(SLOTS - app.instance.used, number - asked)):
                    group.create_task(app.start_call(str(asked)))
                    asked += 1
                await asyncio.sleep(0.001)
            while app.instance.used:  # noqa: ASYNC110 - that a slot is free again is no event of the public API
                await asyncio.sleep(0.001)
        say(ran_s=time.monotonic() - first, ran=ran)


if __name__ == "__main__":
    run(_main(int(sys.argv[1])))
