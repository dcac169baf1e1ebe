"""One process that asks the store for many sessions: ``SESSIONS ROUNDS PID…`` starts them, then renews all in rounds.

As a worker asks: starts one by one, but many at once; renewals in requests of thousands, all that are due together.
``PID…`` are the servers. Says of ``starts`` and of ``renewals`` what :class:`Lap` has.
"""

import asyncio
import os
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple, Self

from mediaflow import Settings
from mediaflow.bench.program import cpu_s
from mediaflow.bench.saying import run, say
from mediaflow.core import names
from mediaflow.core.partitions import partition_of
from mediaflow.runtime.renewer import LARGEST_REQUEST
from mediaflow.store import (
    LARGEST_LOT,
    RENEWED,
    Claim,
    Holding,
    Lot,
    NewSession,
    Owner,
    RedisStore,
    open_store,
)

STARTS_AT_ONCE = 100
OWNER = Owner("bench", 1, names.rank(1, "bench"))

_PATIENCE_S = 30.0
_BEGAN_MS = 1_700_000_000_000


class Lap(NamedTuple):
    """So many were asked for in so long; the CPU time of this process meanwhile, and of each server."""

    number: int
    took_s: float
    client_s: float
    primaries_s: list[float]

    @classmethod
    async def of(cls, number: int, pids: Sequence[int], work: Callable[[], Awaitable[object]]) -> Self:
        """Measure what asks for them."""
        primaries_s = [cpu_s(pid) for pid in pids]
        began_s, spent_s = time.perf_counter(), time.process_time()
        await work()
        took_s, client_s = time.perf_counter() - began_s, time.process_time() - spent_s
        return cls(
            number,
            took_s,
            client_s,
            [cpu_s(pid) - before_s for pid, before_s in zip(pids, primaries_s, strict=True)],
        )


def settings() -> Settings:
    """Return those of a program that is given nothing but where Redis is."""
    return Settings(redis_url=os.environ["MEDIAFLOW_REDIS_URL"])


async def start(store: RedisStore, number: int) -> list[Holding]:
    """Start so many sessions, and return what renews them."""
    partitions = settings().partitions
    numbers = iter(range(number))
    held: list[Holding] = []

    async def some() -> None:
        for one in numbers:
            call_id = f"call-{one}"
            session_id = names.session_id(_BEGAN_MS + one, partition_of(call_id, partitions), one)
            made = await store.create(
                NewSession(
                    call_id=call_id,
                    session_id=session_id,
                    idempotency_key=f"key-{one}",
                    body_digest="digest",
                    metadata=b'{"room":7}',
                    owner=OWNER,
                ),
                timeout_s=_PATIENCE_S,
            )
            held.append(Holding(OWNER, Claim(call_id, made.session_id, made.fence)))

    async with asyncio.TaskGroup() as group:
        for _ in range(STARTS_AT_ONCE):
            group.create_task(some())
    return held


async def renew(store: RedisStore, held: Sequence[Holding], rounds: int) -> None:
    """Renew all so many times; while some are being answered, others are asked for.

    Raises:
        RuntimeError: One was not renewed.
    """
    lots = [store.lot(leases) for leases in _by_partition(held)]

    async def again(some: Sequence[Lot]) -> None:
        for _ in range(rounds):
            for answers in await store.renew_many(some, timeout_s=_PATIENCE_S):
                if answers != [RENEWED] * len(answers):
                    raise RuntimeError(f"not all were renewed: {set(answers)}")

    async with asyncio.TaskGroup() as group:
        at_once = LARGEST_REQUEST // LARGEST_LOT
        for first in range(0, len(lots), at_once):
            group.create_task(again(lots[first : first + at_once]))


def _by_partition(held: Sequence[Holding]) -> Iterator[Sequence[Holding]]:
    """Divide them as a worker does, which keeps together what one script renews."""
    partitions = settings().partitions
    found: defaultdict[int, list[Holding]] = defaultdict(list)
    for one in held:
        found[partition_of(one.claim.call_id, partitions)].append(one)
    for leases in found.values():
        for first in range(0, len(leases), LARGEST_LOT):
            yield leases[first : first + LARGEST_LOT]


async def _main(number: int, rounds: int, pids: Sequence[int]) -> None:
    store = await open_store(settings())
    await store.check()
    held: list[Holding] = []

    async def starts() -> None:
        held.extend(await start(store, number))

    started = await Lap.of(number, pids, starts)
    renewed = await Lap.of(number * rounds, pids, lambda: renew(store, held, rounds))
    say(starts=started._asdict(), renewals=renewed._asdict())
    await store.close()


if __name__ == "__main__":
    run(_main(int(sys.argv[1]), int(sys.argv[2]), [int(word) for word in sys.argv[3:]]))
