"""A hash slot that moves to another primary under load, with all the calls of its partition."""

import asyncio
import contextlib

import pytest
from conftest import needs_redis
from harness.puppets import create_call
from harness.stage import TTL_S
from harness.topologies import SixNodeCluster

from mediaflow.core.partitions import hash_slot, tags
from mediaflow.settings import Settings
from mediaflow.store import SessionRef, open_store

pytestmark = [pytest.mark.redis, pytest.mark.slow]

PARTITIONS = 3
READ = 60
HALF_MOVED_S = 0.5
"""Longer than a renewal may be late would cost the owners their leases: lease time goes on meanwhile."""


@pytest.fixture
def cluster():
    needs_redis()
    topology = SixNodeCluster()
    yield topology
    topology.close()


@pytest.fixture
async def reader(cluster):
    """Reads sessions one by one; of some in each partition a part has always moved, and is asked for anew."""
    async with contextlib.AsyncExitStack() as opened:
        store = await open_store(Settings(redis_url=cluster.url, namespace="read", partitions=PARTITIONS))
        opened.push_async_callback(store.close)
        made = [(call_id, await create_call(store, call_id)) for call_id in map(str, range(READ))]
        refs = [SessionRef(call_id, one.session_id) for call_id, one in made]

        async def read() -> None:
            assert all(await asyncio.gather(*(store.outline(ref) for ref in refs)))

        yield read


async def test_a_partition_whose_hash_slot_moves_under_load_loses_no_call_and_no_owner(
    open_stage, cluster, reader
):
    stage = open_stage(cluster.url, "--partitions", str(PARTITIONS))
    await stage.open("w1", "w2", "w3")
    call_ids = await stage.fill(60)
    async with stage.load(lasts=5) as load:
        for tag in tags(PARTITIONS):
            moving = cluster.moving(hash_slot(tag))
            # Scripts that need keys of both places are refused until all are at one.
            stage.story.fault("frozen")
            await asyncio.to_thread(moving.__enter__)
            await asyncio.gather(reader(), asyncio.sleep(HALF_MOVED_S))
            await asyncio.to_thread(moving.__exit__, None, None, None)
            stage.story.fault("thawed")
            await stage.all_write(call_ids)
        assert cluster.told("TRYAGAIN"), "nobody asked for a slot on its way"
        assert cluster.told("ASK")
        assert cluster.told("MOVED")
        # Nobody was taken for dead meanwhile.
        await asyncio.sleep(TTL_S)
        places = {(entry.call_id, entry.instance_id) for entry in stage.story.starts()}
        assert sorted(call_id for call_id, _ in places if call_id in call_ids) == sorted(call_ids)
        # And now that one is, its calls are taken over from the new primaries.
        await stage.kill("w1")
        await stage.all_write(call_ids)
    assert len(load) > 20
    await stage.judge()
