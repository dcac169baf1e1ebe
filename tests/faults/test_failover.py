"""A primary that dies under load, and what takes its place: Sentinel's replica, and a Redis Cluster's."""

import asyncio
import contextlib
import uuid

import msgspec
import pytest
from conftest import needs_redis
from harness.laboratory import report
from harness.proxied import meanwhile
from harness.stage import PATIENCE_S, TTL_S, Stage
from harness.topologies import SentinelTrio, SixNodeCluster
from harness.waiting import eventually

from mediaflow.settings import Settings
from mediaflow.store import Changed, Store, StoreUnavailable, open_store

pytestmark = [pytest.mark.redis, pytest.mark.slow]

BEHIND_S = 1.0
"""By how much the replicas may be behind what the primary acknowledged; on one host it is milliseconds."""

LISTENERS = 8
"""So many that on a cluster some of them listen at the primary that will be lost."""

DEAF_S = 5.0
"""How long after a failover somebody may hear nothing; the silence of a connection alone would take twice as long."""


async def listen(store: Store, heard: list[Changed]) -> None:
    async for message in store.changes():
        heard += [message]  # one by one: somebody reads it meanwhile


async def look_each_second(store: Store) -> None:
    """Do what every program does: look whether Redis is there."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            await store.check(timeout_s=1.0)
        await asyncio.sleep(1.0)


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


def rolled_back(stage: Stage, since_s: float, kind: str = "rolled back") -> None:
    """Write down that what was written since then, or had not reached the replicas, may be lost."""
    stage.story.fault(kind, detail=f"{stage.story.now_s() - since_s + BEHIND_S:.3f}")


@contextlib.asynccontextmanager
async def further_failovers(stage: Stage, redundant: SentinelTrio | SixNodeCluster):
    """Write down each failover from now on, after the one that a test made: an overloaded machine makes more of them.

    A primary that is alive takes writes until it learns that it was replaced.
    """

    async def tell() -> None:
        known = await asyncio.to_thread(redundant.epoch)
        while True:
            asked_s = stage.story.now_s()
            await asyncio.sleep(0.1)
            if (found := await asyncio.to_thread(redundant.epoch)) > known:
                await eventually(redundant.is_at_rest, PATIENCE_S, about="no other takes writes", every_s=0.1)
                rolled_back(stage, asked_s)
                known = found

    async with meanwhile(tell()):
        yield


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
        rolled_back(stage, frozen_s, "split")
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
    async with contextlib.AsyncExitStack() as until_all_is_taken, stage.load(lasts=5):
        await asyncio.sleep(1.0)
        lost, *_ = redundant.servers
        await asyncio.to_thread(lost.stop)
        stopped_s = stage.story.now_s()
        stage.story.fault("stopped")
        await eventually(redundant.failed_over, PATIENCE_S, about="a replica has taken over", every_s=0.1)
        rolled_back(stage, stopped_s)
        await until_all_is_taken.enter_async_context(further_failovers(stage, redundant))
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


async def test_g2_with_durability_replicas_no_call_that_was_acknowledged_is_lost_with_the_primary(
    open_stage, redundant
):
    stage = open_stage(redundant.url)
    names = ("w1", "w2")
    await stage.open(*names, **dict.fromkeys(names, ("--durability-replicas", "1")))
    async with contextlib.AsyncExitStack() as until_all_is_taken, stage.load(every_s=0.03, lasts=5):
        await eventually(lambda: len(stage.story.acknowledged()) > 30, PATIENCE_S, about="calls are taken")
        lost, *_ = redundant.servers
        await asyncio.to_thread(lost.stop)
        stopped_s = stage.story.now_s()
        stage.story.fault("stopped")
        # What was acknowledged until now is on a replica, whatever else may be lost; nothing else is judged here.
        acknowledged = stage.story.acknowledged()
        await eventually(redundant.failed_over, PATIENCE_S, about="a replica has taken over", every_s=0.1)
        rolled_back(stage, stopped_s)
        await until_all_is_taken.enter_async_context(further_failovers(stage, redundant))
        # Where its successor has no replica, nothing is acknowledged until there is one.
        await asyncio.to_thread(lost.start)
    known = {call["callId"] for call in await stage.api.calls()}
    assert acknowledged - known == set()
    await stage.judge()


@pytest.mark.parametrize("redundant", [SentinelTrio, SixNodeCluster], indirect=True)
async def test_messages_reach_everyone_again_when_a_primary_stands_still_and_is_replaced(redundant):
    async with contextlib.AsyncExitStack() as opened:
        settings = Settings(redis_url=redundant.url, namespace=f"test-{uuid.uuid4().hex[:12]}")
        heard: list[list[Changed]] = []
        for _ in range(LISTENERS):
            store = await open_store(settings)
            opened.push_async_callback(store.close)
            await store.check()
            heard.append([])
            await opened.enter_async_context(meanwhile(listen(store, heard[-1])))
            await opened.enter_async_context(meanwhile(look_each_second(store)))
        await eventually(lambda: all(heard), 5, about="all have subscribed")
        redundant.servers[0].freeze()
        await eventually(redundant.failed_over, PATIENCE_S, about="a replica has taken over", every_s=0.1)
        before = [len(messages) for messages in heard]

        async def all_hear_it() -> bool:
            # A cluster's servers are told of a change of instances by a script at one of them.
            with contextlib.suppress(StoreUnavailable):
                await store.heartbeat(
                    msgspec.structs.replace(report(), token=uuid.uuid4().hex), timeout_s=1.0
                )
            return all(
                Changed("instances") in messages[count:]
                for messages, count in zip(heard, before, strict=True)
            )

        await eventually(all_hear_it, DEAF_S, about="all hear messages again", every_s=0.2)
