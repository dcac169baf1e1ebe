"""A primary that dies under load, and what takes its place: Sentinel's replica, and a Redis Cluster's."""

import asyncio

import pytest
from conftest import needs_redis
from harness.stage import PATIENCE_S, TTL_S, Stage
from harness.topologies import SentinelTrio, SixNodeCluster
from harness.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]

BEHIND_S = 1.0
"""By how much the replicas may be behind what the primary acknowledged; on one host it is milliseconds."""


@pytest.fixture
def trio():
    needs_redis()
    topology = SentinelTrio()
    yield topology
    topology.close()


@pytest.fixture(params=[SentinelTrio, SixNodeCluster], ids=lambda kind: kind.__name__)
def redundant(request):
    needs_redis()
    topology = request.param()
    yield topology
    topology.close()


def rolled_back(stage: Stage, since_s: float) -> None:
    """Write down that what was written since then, or had not reached the replicas, may be lost."""
    stage.story.fault("rolled back", detail=f"{stage.story.now_s() - since_s + BEHIND_S:.3f}")


async def test_g7_a_primary_that_wakes_up_after_its_replacement_and_still_takes_writes_disturbs_nobody(
    open_stage, trio
):
    stage = open_stage(trio.url)
    await stage.open("w1", "w2", "w3")
    call_ids = await stage.fill(60)
    async with stage.load(lasts=5):
        frozen_s = stage.story.now_s()
        stage.story.fault("frozen")
        trio.primary.freeze()
        await eventually(trio.failed_over, PATIENCE_S, about="a replica has taken over", every_s=0.1)
        rolled_back(stage, frozen_s)
        thawed_s = stage.story.now_s()
        trio.primary.thaw()
        # For a moment there are two primaries, each with clients that believe in it.
        await eventually(
            lambda: b"role:slave" in trio.primary.command("INFO", "replication"), PATIENCE_S, every_s=0.1
        )
        rolled_back(stage, thawed_s)
        await stage.all_write(call_ids)
        await stage.kill("w1")
        await stage.all_write(call_ids)
    await stage.judge()


async def test_g7_a_primary_killed_under_load_costs_no_call_and_its_successor_serves_takeovers(
    open_stage, redundant
):
    stage = open_stage(redundant.url)
    await stage.open("w1", "w2", "w3")
    call_ids = await stage.fill(60)
    async with stage.load(lasts=5):
        await asyncio.sleep(1.0)
        lost, *_ = redundant.servers
        await asyncio.to_thread(lost.stop)
        stopped_s = stage.story.now_s()
        stage.story.fault("stopped")
        await eventually(redundant.failed_over, PATIENCE_S, about="a replica has taken over", every_s=0.1)
        rolled_back(stage, stopped_s)
        await stage.all_write(call_ids)
        # Nobody was taken for dead meanwhile.
        await asyncio.sleep(TTL_S)
        places = {(entry.call_id, entry.instance_id) for entry in stage.story.starts()}
        assert sorted(call_id for call_id, _ in places if call_id in call_ids) == sorted(call_ids)
        # Now somebody is; and the old primary comes back as a replica.
        await stage.kill("w1")
        await asyncio.to_thread(lost.start)
        await stage.all_write(call_ids)
    await stage.judge()
