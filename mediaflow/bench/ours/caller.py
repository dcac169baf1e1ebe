"""A client of a balancer: ``idle URL NUMBER PAUSE_S`` posts one call at a time, ``burst URL NUMBER`` all at once.

Says ``asked`` and ``answered``, when each was; ``pending``, how many were not given an owner at once; ``refused``, how
many were not accepted.
"""

import asyncio
import sys
import time

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from mediaflow.bench.saying import run, say

_DEADLINE_S = 30.0


async def _main(role: str, url: str, number: int, pause_s: float) -> None:
    asked: dict[int, float] = {}
    answered: dict[int, float] = {}
    states: list[str] = []

    async def call(one: int) -> None:
        asked[one] = time.monotonic()
        async with http.post(f"{url}/calls/call-{one}", json={"room": one}) as response:
            body = await response.json(content_type=None)
            answered[one] = time.monotonic()
            states.append(body["state"] if response.status < 300 else "refused")

    async with ClientSession(
        connector=TCPConnector(limit=0), timeout=ClientTimeout(total=_DEADLINE_S)
    ) as http:
        if role == "burst":
            async with asyncio.TaskGroup() as group:
                for one in range(number):
                    group.create_task(call(one))
        else:
            for one in range(number):
                await call(one)
                await asyncio.sleep(pause_s)
    say(asked=asked, answered=answered, pending=states.count("pending"), refused=states.count("refused"))


if __name__ == "__main__":
    run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else 0))
