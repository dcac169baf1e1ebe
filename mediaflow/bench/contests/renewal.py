"""Renewal: what it costs to keep the leases of many live sessions, and how late it gets."""

import asyncio
import re
import time
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

from mediaflow.bench.contest import Bound, Contest, Contestant, Metric
from mediaflow.bench.contests.filling import fill, sessions
from mediaflow.bench.program import Program, cpu_s, rss_bytes
from mediaflow.bench.stage import Stage, Unfit
from mediaflow.settings import Settings
from mediaflow.store import RedisStore, open_store

MOST_LOCKS = Bound(5_000, "it loses them")
"""From about twice as many on, a process does not keep up with extending its locks one by one."""

MOST_JOBS = Bound(20_000, "it does not run them within a minute")

_SETTLED_LEASES = 2.0
"""So many leases after the start, ours have come together in cohorts: sessions live far longer than that."""

_TICK_S = 0.5
_RENEWED = re.compile(r'^mediaflow_renewals_total\{outcome="renewed"\} ([\d.e+]+)', re.MULTILINE)


class _Spent(NamedTuple):
    """What was spent up to a moment."""

    at_s: float
    client_s: float
    redis_s: float

    @classmethod
    def read(cls, stage: Stage, client: Program) -> "_Spent":
        return cls(time.monotonic(), client.cpu_s(), cpu_s(stage.redis_pid))


def _figures(
    before: _Spent, after: _Spent, *, renewed: float, least_left_s: float | None, bytes_each: float
) -> dict[str, float]:
    seconds = after.at_s - before.at_s
    client_s = after.client_s - before.client_s
    known = {} if least_left_s is None else {"least left": least_left_s}
    return {
        "client CPU": 1e6 * client_s / max(1.0, renewed),
        "of a core": 100 * client_s / seconds,
        "of Redis": 100 * (after.redis_s - before.redis_s) / seconds,
        "memory": bytes_each,
        **known,
    }


async def _ours(stage: Stage) -> dict[str, float]:
    number, ttl_s, seconds = _question(stage)
    async with (
        stage.program("mediaflow.worker", "--port", 0, "--slots", number, "--lease-ttl", ttl_s) as worker,
        _ticking(stage, ttl_s) as leases,
    ):
        url = await worker.ready()
        empty_bytes = rss_bytes(worker.pid)
        await fill(stage, url, number)
        await asyncio.sleep(stage.scaled(_SETTLED_LEASES, 0.5) * ttl_s)
        renewed = await _renewed(url)
        leases.least_left_s = ttl_s
        before = _Spent.read(stage, worker)
        await asyncio.sleep(seconds)
        after = _Spent.read(stage, worker)
        return _figures(
            before,
            after,
            renewed=await _renewed(url) - renewed,
            least_left_s=leases.least_left_s,
            bytes_each=(rss_bytes(worker.pid) - empty_bytes) / number,
        )


def _question(stage: Stage) -> tuple[int, float, float]:
    """Return how many sessions, of which lease, and how long to look: three renewals of each, where there is time."""
    return sessions(stage), stage.scaled(10.0, 3.0), stage.scaled(10.0, 1.5)


async def _renewed(url: str) -> float:
    def read() -> str:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310 - our own process
            return answer.read().decode()

    found = _RENEWED.search(await asyncio.to_thread(read))
    if found is None:
        raise Unfit("its metrics do not tell how many leases it renewed")
    return float(found[1])


class _Leases:
    """Keeps lease time going as a watchdog does, and sees how near to its end any lease comes."""

    def __init__(self, store: RedisStore, ttl_s: float) -> None:
        self._store = store
        self.least_left_s = ttl_s

    async def run(self) -> None:
        while True:
            for view in await self._store.tick(limit=1):
                if view.next_expiry_in_ms is not None:
                    self.least_left_s = min(self.least_left_s, view.next_expiry_in_ms / 1000)
            await asyncio.sleep(_TICK_S)


@asynccontextmanager
async def _ticking(stage: Stage, ttl_s: float) -> AsyncGenerator[_Leases]:
    store = await open_store(Settings(redis_url=stage.redis_url, lease_ttl=ttl_s))
    leases = _Leases(store, ttl_s)
    ticking = asyncio.create_task(leases.run())
    try:
        yield leases
    finally:
        ticking.cancel()
        await asyncio.wait([ticking])
        await store.close()


async def _locks(stage: Stage) -> dict[str, float]:
    return await _holding(stage, "mediaflow.bench.peers.lock")


async def _streaq(stage: Stage) -> dict[str, float]:
    return await _holding(stage, "mediaflow.bench.peers.streaq_holding")


async def _bare(stage: Stage) -> dict[str, float]:
    return await _holding(stage, "mediaflow.bench.peers.bare_renewal")


async def _holding(stage: Stage, module: str) -> dict[str, float]:
    number, ttl_s, seconds = _question(stage)
    async with stage.program(module, number, ttl_s, seconds) as client:
        await client.heard()
        empty_bytes = rss_bytes(client.pid)
        await client.heard(60)
        before = _Spent.read(stage, client)
        said = await client.heard(4 * seconds)
        after = _Spent.read(stage, client)
        if said["lost"]:
            raise Unfit(f"it lost {said['lost']:,} of {number:,} leases")
        return _figures(
            before,
            after,
            renewed=said["renewed"],
            least_left_s=said.get("least_left_s"),
            bytes_each=(rss_bytes(client.pid) - empty_bytes) / number,
        )


RENEWAL = Contest(
    name="renewal",
    title="keeping the leases of live sessions, 10 s each: what a renewal costs, and what a session does",
    metrics=(
        Metric("client CPU", "µs", "lower"),
        Metric("of a core", "%", "lower"),
        Metric("of Redis", "%", "lower"),
        Metric("least left", "s", "higher"),
        Metric("memory", "B", "lower"),
    ),
    ours=Contestant("a worker", _ours),
    others=(
        Contestant("redis-py Lock.extend", _locks, ("redis",), bound=MOST_LOCKS),
        Contestant("streaq, claims in batches", _streaq, ("streaq", "coredis"), bound=MOST_JOBS),
        Contestant("one script for 500 bare leases", _bare, is_limit=True),
    ),
    sizes=(1_000, 5_000, 20_000, 50_000),
    axis="live sessions",
    deadline_s=600,
)
