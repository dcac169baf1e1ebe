"""A failover that lost the last writes takes no checkpoint away from a call whose owner lives."""

import asyncio

from mediaflow.testing import Simulation
from mediaflow.testing.history import Wrote

pytest_plugins = ["mediaflow.testing.plugin"]


def test_a_checkpoint_that_redis_lost_is_put_back_by_its_owner_before_another_needs_it(
    simulation: Simulation,
):
    resumed: list[object] = []

    async def handler(session) -> None:
        resumed.append(session.resume)
        if session.resume is None:
            await session.checkpoint("early")
            await asyncio.sleep(3)
            await session.checkpoint("late")
        await asyncio.Event().wait()

    async def scenario(cluster):
        cluster.start("ann", handler)
        await asyncio.sleep(1)
        await cluster.submit("call")
        await cluster.until_running("call")
        await asyncio.sleep(2)
        before = cluster.redis.engine.snapshot()
        await asyncio.sleep(3)
        cluster.roll_back(before, 3)
        cluster.start("bob", handler)
        await asyncio.sleep(3)
        cluster.kill("ann")
        await cluster.until_running("call")

    simulation.play(scenario)
    assert resumed == [None, "late"]


def test_an_owner_of_old_that_a_rolled_back_redis_confirms_gets_a_new_fence_before_it_writes(
    simulation: Simulation,
):
    fences: list[int] = []

    async def handler(session) -> None:
        if session.instance_id == "ann":
            # It neither checks nor writes while it is cut off, so that it goes on where it was.
            await asyncio.sleep(7)
            while not session.owned:
                await asyncio.sleep(0.01)
        await session.checkpoint(session.instance_id)
        await asyncio.Event().wait()

    async def scenario(cluster):
        ann = cluster.start("ann", handler)
        await asyncio.sleep(1)
        await cluster.submit("call")
        await cluster.until_running("call")
        await asyncio.sleep(1)
        before = cluster.redis.engine.snapshot()
        bob = cluster.start("bob", handler)
        await asyncio.sleep(1)
        cluster.cut(ann)
        await asyncio.sleep(5)
        cluster.cut(bob)
        cluster.roll_back(before, 6)
        cluster.mend(ann)
        await asyncio.sleep(1)
        cluster.mend(bob)
        await asyncio.sleep(4)
        fences.extend(one.fence for one in cluster.recorder.history if isinstance(one, Wrote))
        assert len(fences) == 2
        assert fences == sorted(fences)
        fences.clear()

    simulation.play(scenario, seeds=20)
