"""`start_call` of an embedded app, one call at a time, to the first line of its handler; then the call ends."""

import asyncio
import os
import sys
import time

from mediaflow import MediaApp, Session
from mediaflow.bench.saying import run, say


async def _main(number: int, pause_s: float) -> None:
    app = MediaApp(slots=100, redis=os.environ["MEDIAFLOW_REDIS_URL"])
    began: dict[str, float] = {}
    done = asyncio.Event()

    @app.session
    async def handle(session: Session) -> None:  # pyright: ignore[reportUnusedFunction]
        began[session.call_id] = time.monotonic()
        done.set()

    seconds: list[float] = []
    async with app:
        for i in range(number):
            done.clear()
            call_id = f"call-{i}"
            asked = time.monotonic()
            await app.start_call(call_id)
            await done.wait()
            seconds.append(began.pop(call_id) - asked)
            await asyncio.sleep(pause_s)
    say(seconds=seconds)


if __name__ == "__main__":
    run(_main(int(sys.argv[1]), float(sys.argv[2])))
