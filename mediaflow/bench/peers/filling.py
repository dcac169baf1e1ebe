"""Fills Redis with what the hand-made service keeps: a sorted set a user, with two members."""

import os
import sys
from typing import Any

from redis.asyncio import Redis

from mediaflow.bench.peers.handmade import LIMIT, SCRIPT, TTL_MS
from mediaflow.bench.saying import run, say

STREAMS_EACH = 2
_AT_ONCE = 200


async def _main(users: int) -> None:
    factory: Any = Redis  # half of its types are unknown
    client = factory.from_url(os.environ["MEDIAFLOW_REDIS_URL"])
    sha = await client.script_load(SCRIPT)
    for first in range(0, users, _AT_ONCE):
        pipeline = client.pipeline(transaction=False)
        for user in range(first, min(first + _AT_ONCE, users)):
            for stream in range(STREAMS_EACH):
                pipeline.evalsha(sha, 1, f"streams:{user:032d}", f"{stream:012d}", LIMIT, 100 * TTL_MS)
        await pipeline.execute()
    await client.aclose()
    say(streams=STREAMS_EACH * users)


if __name__ == "__main__":
    run(_main(int(sys.argv[1])))
