"""Sessions of 0 to 10 ms, started, run and finished by one embedded app that keeps its 100 slots busy.

Like the job queues it has run one before, which does not count, and it is timed as they are:
:class:`~mediaflow.bench.tally.Tally`.
"""

import asyncio
import os
import sys

from mediaflow import MediaApp, Session
from mediaflow.bench.saying import run
from mediaflow.bench.tally import NAP, Tally

SLOTS = 100


async def _main(number: int) -> None:
    app = MediaApp(slots=SLOTS, redis=os.environ["MEDIAFLOW_REDIS_URL"], admission="reject")
    tally = Tally(number, NAP)

    @app.session
    async def handle(session: Session) -> None:  # pyright: ignore[reportUnusedFunction]
        await tally.handle(int(session.call_id))

    async def all_free() -> None:
        while app.instance.used:  # noqa: ASYNC110 - that a slot is free again is no event of the public API
            await asyncio.sleep(0.001)

    async with app, asyncio.TaskGroup() as group:
        await app.start_call("-1")
        await all_free()
        asked = 0
        while asked < number:
            for _ in range(min(SLOTS - app.instance.used, number - asked)):
                group.create_task(app.start_call(str(asked)))
                asked += 1
            await asyncio.sleep(0.001)
        await all_free()


if __name__ == "__main__":
    run(_main(int(sys.argv[1])))
