"""The bench's own Redis Cluster: that it serves and is gone afterwards, and that the contest on it runs through."""

import pytest
from conftest import needs_redis
from harness.processes import alive

from mediaflow.bench.contests.primaries import PRIMARIES
from mediaflow.bench.stage import stage
from mediaflow.settings import Settings
from mediaflow.store import open_store


@pytest.mark.redis
async def test_ours_and_its_limit_are_measured_on_a_cluster_that_is_kept_emptied_and_ended():
    needs_redis()
    async with stage(quick=True) as ready:
        ready.size = 2
        first = await ready.cluster(2)
        for contestant in (PRIMARIES.ours, *PRIMARIES.others):
            found = await contestant.measure(ready)
            assert set(found) == {metric.name for metric in PRIMARIES.metrics}
            assert found["starts"] > 0
            assert found["renewals"] > 0
            assert await knows(first.url, "call-0")
        again = await ready.cluster(2)
        assert again.pids == first.pids
        assert not await knows(again.url, "call-0")
        other = await ready.cluster(1)
        assert not any(map(alive, first.pids))
        assert [alive(pid) for pid in other.pids] == [True]
    assert not any(map(alive, other.pids))


async def knows(url: str, call_id: str) -> bool:
    store = await open_store(Settings(redis_url=url))
    try:
        return await store.describe(call_id) is not None
    finally:
        await store.close()
