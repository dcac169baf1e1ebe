"""G3: whoever was an owner may still run, and can change nothing.

Of a process that stood still (SIGSTOP), ``tests/process/test_measures.py`` shows the same.
"""

import asyncio

import pytest
from harness.proxied import TTL_S, ProxiedCluster, Witness
from harness.stopwatch import Stopwatch
from harness.waiting import eventually

from mediaflow import LeaseLost
from mediaflow.core.lease import LEASE_CLOCK_CAP_S
from mediaflow.store import Claim, Owner

pytestmark = pytest.mark.redis

WITHIN_S = 10.0


async def test_g3_an_owner_that_cannot_reach_redis_learns_from_its_own_clock_that_its_lease_is_over(
    redis_server,
):
    witness = Witness()
    async with ProxiedCluster(redis_server) as cluster:
        member = await cluster.member("one", witness.tick)
        await member.start("call-1")
        run = await witness.begun("call-1")
        with Stopwatch() as watch:
            member.proxy.black_hole()
            run.session.check()
            await eventually(lambda: not run.session.owned, TTL_S, every_s=0.005)
        # Before Redis can have given it away, whatever the answers that were under way.
        watch.assert_within(TTL_S - LEASE_CLOCK_CAP_S, "the owner distrusted its lease", idle_s=1.0)
        with pytest.raises(LeaseLost):
            run.session.check()
        assert run.session.lease_remaining_s == 0
        with pytest.raises(LeaseLost):
            await run.session.checkpoint({"too": "late"})
        with pytest.raises(LeaseLost):
            await run.session.publish(too="late")
        assert not run.over


class Ending:
    """Handlers of an owner that is cut off, which do what they are told when they are told."""

    def __init__(self) -> None:
        self.told = asyncio.Event()
        self.refusals: list[str] = []

    async def __call__(self, session) -> None:
        await session.checkpoint({"by": "the old owner"})
        await self.told.wait()
        if session.call_id == "raises":
            raise RuntimeError("the old owner's attempt failed")
        if session.call_id == "writes":
            for write in (
                session.checkpoint({"by": "the old owner, late"}),
                session.publish(by="the old owner"),
            ):
                try:
                    await write
                except LeaseLost:
                    self.refusals.append(session.call_id)


@pytest.mark.slow
async def test_g3_what_a_former_owner_writes_completes_or_fails_changes_nothing(redis_server):
    witness, ending = Witness(), Ending()
    calls = ("returns", "raises", "writes")
    async with ProxiedCluster(redis_server) as cluster:
        old = await cluster.member("old", ending.__call__)
        for call_id in calls:
            await old.start(call_id)
        await eventually(lambda: old.instance.running == len(calls), WITHIN_S)
        claims = {
            call_id: Claim(call_id, session.session_id, session.fence)
            for call_id in calls
            for session in await cluster.active(call_id)
        }
        await eventually(
            lambda: all(cluster.checkpoint(claim.session_id)[0] == 1 for claim in claims.values()), WITHIN_S
        )
        new = await cluster.member("new", witness.hold)
        await cluster.watchdog()
        old.proxy.black_hole()
        for call_id in calls:
            await witness.begun(call_id, instance_id=new.id, ticks=1)
        now = {call_id: await cluster.call(call_id) for call_id in calls}

        # By the runtime: the coroutines return, raise and write while cut off, and Redis hears of it later.
        ending.told.set()
        old.proxy.heal()
        await eventually(lambda: old.instance.running == 0, WITHIN_S)
        assert ending.refusals == ["writes", "writes"]
        # By the bare store: whatever the runtime might forget to ask itself.
        owner = Owner(old.id, old.instance.incarnation, old.instance.rank)
        for claim in claims.values():
            for answer in (
                await old.store.checkpoint(owner, claim, 1_000_000, b'{"by": "a former owner"}'),
                await old.store.publish(owner, claim, 1 << 52, b'{"by": "a former owner"}'),
                await old.store.complete(owner, claim),
                await old.store.fail(owner, claim, "late", 0.0),
                await old.store.release(owner, claim, "late"),
                await old.store.refuse(owner, claim, "late"),
                await old.store.renew(owner, claim),
                await old.store.accept(owner, claim),
            ):
                assert answer.status == "lost", answer
        for call_id in calls:
            (session,) = (await cluster.call(call_id)).sessions
            (before,) = now[call_id].sessions
            assert (session.state, session.instance_id) == ("active", new.id)
            assert (session.fence, session.attempt, session.details) == (before.fence, 1, before.details)
            assert cluster.checkpoint(session.session_id)[1] == b'{"left by":"%s"}' % call_id.encode()
        assert len(witness.going()) == len(calls)
