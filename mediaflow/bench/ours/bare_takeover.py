"""The limit of takeover: sweep, assign and accept of a dead instance's sessions, asked for by one loop.

The same scripts as in life, without what decides when and where, without actors and handlers.
"""

import asyncio
import os
import sys
import time
from collections.abc import Sequence

from mediaflow import Settings
from mediaflow.bench.saying import run, say
from mediaflow.store import Assignments, Claim, Grant, InstanceReport, Owner, RedisStore, open_store

_ASSIGNED_AT_ONCE = 100
_HEIR = "heir"


async def _main(dead: str, number: int) -> None:
    store = await open_store(Settings(redis_url=os.environ["MEDIAFLOW_REDIS_URL"]))
    heir = await _register(store, number)
    listening = asyncio.create_task(_accept(store, heir, number))
    await asyncio.sleep(0.5)  # the inbox is subscribed to
    records = {record.instance_id: record for record in await store.instances()}
    began_s, spent_s = time.monotonic(), time.process_time()
    await store.sweep_dead(dead, records[dead].incarnation + 1, "process died")
    while waiting := [
        (view.partition, view.waiting) for view in await store.tick(limit=1000) if view.waiting
    ]:
        await asyncio.gather(
            *(
                store.assign(
                    partition,
                    [Grant(one.ref, heir) for one in ones[first : first + _ASSIGNED_AT_ONCE]],
                    f"{partition}-{first}-{time.monotonic_ns()}",
                )
                for partition, ones in waiting
                for first in range(0, len(ones), _ASSIGNED_AT_ONCE)
            )
        )
    moments_s = await listening
    say(seconds=[moment_s - began_s for moment_s in moments_s], cpu_s=time.process_time() - spent_s)
    await store.close()


async def _register(store: RedisStore, slots: int) -> Owner:
    report = InstanceReport(
        instance_id=_HEIR, token=_HEIR, incarnation=0, rank=_HEIR, address="", slots=slots, used=0,
        state="ready", version="", started_at_ms=0,
    )  # fmt: skip
    return Owner(_HEIR, (await store.heartbeat(report)).incarnation, _HEIR)


async def _accept(store: RedisStore, heir: Owner, number: int) -> list[float]:
    """Accept what is assigned, until all are; return when each was."""
    moments_s: list[float] = []

    async def accept(claims: Sequence[Claim]) -> None:
        answers = await store.accept_many(heir, claims)
        moments_s.extend([time.monotonic()] * len(answers))

    async with asyncio.TaskGroup() as group:
        async for message in store.inbox(_HEIR):
            if isinstance(message, Assignments):
                group.create_task(accept(message.claims))
                number -= len(message.claims)
            if number <= 0:
                break
    return moments_s


if __name__ == "__main__":
    run(_main(sys.argv[1], int(sys.argv[2])))
