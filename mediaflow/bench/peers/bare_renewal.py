"""The limit of renewals: one task that extends plain leases, 500 in a script, and nothing else.

No fence, no sibling, no cancel, no actor: what it costs at least to move the expiry of that many.
"""

import asyncio
import os
import sys
import time
from typing import Any

from redis.asyncio import Redis

from mediaflow.bench.saying import run, say

BATCH = 500

SCRIPT = """
local time = redis.call('TIME')
local expires_ms = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], expires_ms, ARGV[i]) end
return #ARGV - 1
"""


async def _main(number: int, ttl_s: float, seconds: float) -> None:
    factory: Any = Redis  # half of its types are unknown
    client = factory.from_url(os.environ["MEDIAFLOW_REDIS_URL"])
    extend: Any = client.register_script(SCRIPT)
    say(holding=0)
    names = [f"call-{n}/0123456789abcdef{n:016x}" for n in range(number)]
    batches = [names[first : first + BATCH] for first in range(0, number, BATCH)]
    granted_at_s = [time.monotonic()] * len(batches)
    renewed, least_left_s = 0, ttl_s

    async def extend_all() -> None:
        nonlocal renewed, least_left_s
        for index, batch in enumerate(batches):
            asked_at_s = time.monotonic()
            await extend(keys=["leases"], args=[int(ttl_s * 1000), *batch])
            least_left_s = min(least_left_s, granted_at_s[index] + ttl_s - time.monotonic())
            granted_at_s[index] = asked_at_s
            renewed += len(batch)
            await asyncio.sleep(ttl_s / 3 / len(batches))

    await extend_all()
    renewed, least_left_s = 0, ttl_s
    say(window="open")
    ends_at_s = time.monotonic() + seconds
    while time.monotonic() < ends_at_s:
        await extend_all()
    say(renewed=renewed, lost=0, least_left_s=least_left_s)
    await client.aclose()


if __name__ == "__main__":
    run(_main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
