"""A client of a balancer: ``URL NUMBER AT_ONCE PAUSE_S`` posts so many calls, so many at once, with pauses between.

Says ``asked`` and ``answered``, when each was; ``pending``, how many were not given an owner at once; ``refusals``,
what was answered to those that were not accepted.
"""

import asyncio
import sys
import time

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from mediaflow.bench.saying import run, say

_DEADLINE_S = 30.0


async def _main(url: str, number: int, at_once: int, pause_s: float) -> None:
    asked: dict[int, float] = {}
    answered: dict[int, float] = {}
    pending = 0
    refusals: list[str] = []

    async def call(one: int) -> None:
        nonlocal pending
        asked[one] = time.monotonic()
        async with http.post(f"{url}/calls/call-{one}", json={"room": one}) as response:
            body = await response.json(content_type=None)
            answered[one] = time.monotonic()
            if response.status < 300:
                pending += body["state"] == "pending"
            else:
                refusals.append(f"{response.status} {body.get('detail') or body.get('title')}")

    async def some() -> None:
        for one in numbers:
            await call(one)
            await asyncio.sleep(pause_s)

    numbers = iter(range(number))
    async with (
        ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=_DEADLINE_S)) as http,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(at_once):
            group.create_task(some())
    say(asked=asked, answered=answered, pending=pending, refusals=refusals)


if __name__ == "__main__":
    run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
