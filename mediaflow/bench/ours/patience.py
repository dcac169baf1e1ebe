"""``URL N``: wait until the balancer there knows N ready instances, then say so."""

import asyncio
import sys
from typing import Any

from aiohttp import ClientSession

from mediaflow.bench.saying import run, say


async def _main(url: str, number: int) -> None:
    async with ClientSession() as http:
        while True:
            async with http.get(f"{url}/instances") as response:
                known: list[dict[str, Any]] = (await response.json(content_type=None)).get("instances", [])
            if sum(one["state"] == "ready" for one in known) >= number:
                break
            await asyncio.sleep(0.02)
    say(known=number)


if __name__ == "__main__":
    run(_main(sys.argv[1], int(sys.argv[2])))
