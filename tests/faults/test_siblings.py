"""G4: real siblings on a real Redis. One survives, the senior; the call is never without a live session."""

import asyncio

import pytest
from harness.proxied import TTL_S, Member, ProxiedCluster, Witness
from harness.stopwatch import Stopwatch
from harness.waiting import eventually

pytestmark = pytest.mark.redis

WITHIN_S = 10.0
POLICIES = ("keep", "stop")


def has_live_lease(session) -> bool:
    return session.state == "active" and session.lease_remaining_ms > 0


def is_live(session) -> bool:
    return session.state in ("active", "pending")


async def two_members(cluster: ProxiedCluster, handler, policy: str = "keep") -> tuple[Member, Member]:
    senior = await cluster.member("b-senior", handler, on_network_partition=policy)
    junior = await cluster.member("a-junior", handler, on_network_partition=policy)
    assert senior.instance.rank < junior.instance.rank
    return senior, junior


async def settled(cluster: ProxiedCluster, witness: Witness, call_id: str) -> str:
    """Wait until one session of the call is active and one coroutine runs, and return the session's id."""

    async def look():
        active = await cluster.active(call_id)
        going = witness.going(call_id)
        ids = {run.session_id for run in going} | {one.session_id for one in active}
        return active[0].session_id if len(active) == len(going) == len(ids) == 1 else ""

    return await eventually(look, WITHIN_S, about=f"one session of {call_id} is left, and runs")


async def survivor_writes(cluster: ProxiedCluster, witness: Witness, call_id: str, session_id: str) -> None:
    """Show that the survivor's writes are taken, and that no sink has seen a higher fence of this call."""
    (run,) = witness.going(call_id)
    before, _ = cluster.checkpoint(session_id)
    await eventually(lambda: cluster.checkpoint(session_id)[0] > before + 2, WITHIN_S)

    async def above_all() -> bool:
        call = await cluster.call(call_id)
        return run.session.fence == max(session.fence for session in call.sessions)

    # The fence is raised by the survivor's own next renewal.
    await eventually(above_all, TTL_S / 2)
    run.session.check()


async def cut_off_past_the_lease(member: Member, witness: Witness, call_id: str, policy: str) -> None:
    """Cut a member off for longer than its lease; see that its coroutine does what the policy says."""
    (run,) = witness.of(call_id, instance_id=member.id)
    with Stopwatch() as watch:
        member.proxy.black_hole()
        await eventually(lambda: not run.session.owned, TTL_S)
    watch.assert_within(TTL_S - 1.0, "the owner distrusted its lease", idle_s=1.0)
    if policy == "stop":
        await eventually(lambda: run.over, 1.0)
    else:
        ticks = run.ticks
        await eventually(lambda: run.ticks > ticks + 10, 1.0)
        assert not run.over


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
async def test_g4_of_siblings_made_by_a_redis_that_forgot_the_senior_survives(redis_server, policy):
    async def scenario(first_is_senior: bool) -> None:
        witness = Witness()
        handler = witness.tick if policy == "keep" else witness.count
        async with ProxiedCluster(redis_server) as cluster:
            senior, junior = await two_members(cluster, handler, policy)
            await cluster.watchdog()
            first, second = (senior, junior) if first_is_senior else (junior, senior)
            lost = await first.start("call-1")
            await witness.begun("call-1")
            await cut_off_past_the_lease(first, witness, "call-1", policy)
            cluster.forget()
            new = await second.start("call-1")
            assert new.created
            assert new.session_id != lost.session_id
            async with cluster.watching("call-1") as sightings:
                first.proxy.heal()
                await eventually(lambda: _two_live(cluster), WITHIN_S, about="the lost one is back: siblings")
                survivor = await settled(cluster, witness, "call-1")
            assert survivor == (lost if first_is_senior else new).session_id
            assert not sightings.without(has_live_lease)
            loser = witness.of(session_id=(new if first_is_senior else lost).session_id)[-1]
            assert loser.end == "yielded"
            events = [event.event for event in await cluster.events("call-1")]
            assert events.count("session.yielded") == 1
            if policy == "stop":
                await survivor_writes(cluster, witness, "call-1", survivor)

    async def _two_live(cluster: ProxiedCluster) -> bool:
        return sum(event.event == "session.readopted" for event in await cluster.events("call-1")) == 1

    await asyncio.gather(scenario(first_is_senior=True), scenario(first_is_senior=False))


async def test_g4_the_surviving_sibling_can_still_write(redis_server):
    async def scenario(first_is_senior: bool) -> None:
        witness = Witness()
        async with ProxiedCluster(redis_server) as cluster:
            senior, junior = await two_members(cluster, witness.count)
            first, second = (senior, junior) if first_is_senior else (junior, senior)
            await first.start("call-1")
            await witness.begun("call-1")
            first.proxy.black_hole()
            cluster.forget()
            await second.start("call-1")
            async with cluster.watching("call-1") as sightings:
                first.proxy.heal()
                await eventually(lambda: _yielded(cluster), WITHIN_S)
                survivor = await settled(cluster, witness, "call-1")
                assert witness.going("call-1")[0].instance_id == senior.id
                await survivor_writes(cluster, witness, "call-1", survivor)
            assert not sightings.without(has_live_lease)

    await asyncio.gather(scenario(first_is_senior=True), scenario(first_is_senior=False))


async def _yielded(cluster: ProxiedCluster) -> bool:
    return any(event.event == "session.yielded" for event in await cluster.events("call-1"))


@pytest.mark.slow
async def test_g4_siblings_made_by_a_redis_restarted_from_its_snapshot_leave_one(new_redis):
    async def scenario(first_is_senior: bool) -> None:
        server = new_redis()
        witness = Witness()
        async with ProxiedCluster(server) as cluster:
            senior, junior = await two_members(cluster, witness.count)
            await cluster.watchdog()
            first, second = (senior, junior) if first_is_senior else (junior, senior)
            server.command("SAVE")
            lost = await first.start("call-1")
            await witness.begun("call-1")
            first.proxy.black_hole()
            await asyncio.to_thread(server.restart)
            new = await second.start("call-1")
            assert new.created
            async with cluster.watching("call-1") as sightings:
                first.proxy.heal()
                await eventually(lambda: _yielded(cluster), WITHIN_S)
                survivor = await settled(cluster, witness, "call-1")
                await survivor_writes(cluster, witness, "call-1", survivor)
            assert survivor == (lost if first_is_senior else new).session_id
            assert not sightings.without(has_live_lease)

    await asyncio.gather(scenario(first_is_senior=True), scenario(first_is_senior=False))


@pytest.mark.slow
async def test_g4_a_session_that_ended_and_is_rolled_back_to_life_leaves_one_with_its_successor(redis_server):
    async def scenario(old_is_senior: bool) -> None:
        witness = Witness()
        async with ProxiedCluster(redis_server) as cluster:
            senior, junior = await two_members(cluster, witness.count)
            await cluster.watchdog()
            first, second = (senior, junior) if old_is_senior else (junior, senior)
            old = await first.start("call-1")
            snapshot = cluster.snapshot()
            await cluster.store.cancel("call-1", "a test ended it")
            await eventually(lambda: not witness.going("call-1"), WITHIN_S)
            new = await second.start("call-1")
            await witness.begun("call-1")
            cluster.roll_back(snapshot)
            async with cluster.watching("call-1") as sightings:
                await eventually(lambda: _yielded(cluster), WITHIN_S)
                survivor = await settled(cluster, witness, "call-1")
                await survivor_writes(cluster, witness, "call-1", survivor)
            assert survivor == (old if old_is_senior else new).session_id
            assert not sightings.without(is_live)

    await asyncio.gather(scenario(old_is_senior=True), scenario(old_is_senior=False))


@pytest.mark.slow
async def test_g4_nobody_yields_to_a_senior_whose_lease_is_over(redis_server):
    witness = Witness()
    async with ProxiedCluster(redis_server) as cluster:
        senior, junior = await two_members(cluster, witness.count)
        dead = await senior.start("call-1")
        await witness.begun("call-1")
        await senior.instance.abort()

        async def lapsed() -> bool:
            await cluster.store.tick()  # lease time goes on, though nobody sweeps
            return (await cluster.active("call-1"))[0].lease_remaining_ms == 0

        await eventually(lapsed, WITHIN_S)
        snapshot = cluster.snapshot()
        await cluster.store.cancel("call-1", "a test ended it")
        living = await junior.start("call-1")
        await witness.begun("call-1", instance_id=junior.id)
        async with cluster.watching("call-1") as sightings:
            cluster.roll_back(snapshot)
            await eventually(lambda: _readopted(cluster), WITHIN_S)
            # Its renewals see the senior, which is active by its record and cannot live.
            await asyncio.sleep(TTL_S / 2)
            assert [run.session_id for run in witness.going("call-1")] == [living.session_id]
            await cluster.watchdog()
            await eventually(lambda: _yielded(cluster), WITHIN_S)
            assert await settled(cluster, witness, "call-1") == living.session_id
            await survivor_writes(cluster, witness, "call-1", living.session_id)
        assert not sightings.without(is_live)
        call = await cluster.call("call-1")
        assert {one.session_id: one.state for one in call.sessions} == {
            dead.session_id: "yielded",
            living.session_id: "active",
        }


async def _readopted(cluster: ProxiedCluster) -> bool:
    return any(event.event == "session.readopted" for event in await cluster.events("call-1"))


@pytest.mark.slow
async def test_g4_of_two_owners_of_one_session_a_redis_rolled_back_before_the_second_leaves_one(redis_server):
    async def scenario(newer_is_heard_first: bool) -> None:
        witness = Witness()
        async with ProxiedCluster(redis_server) as cluster:
            old = await cluster.member("old", witness.count)
            placed = await old.start("call-1")
            new = await cluster.member("new", witness.count)
            await cluster.watchdog()
            await witness.begun("call-1")
            snapshot = cluster.snapshot()
            old.proxy.black_hole()
            newest = (await witness.begun("call-1", instance_id=new.id)).session.fence
            first, second = (new, old) if newer_is_heard_first else (old, new)
            new.proxy.black_hole()
            cluster.roll_back(snapshot)
            async with cluster.watching("call-1") as sightings:
                first.proxy.heal()
                # Both fences were told to someone: whoever goes on needs one above them.
                await eventually(lambda: _owns_above(cluster, first, newest), WITHIN_S)
                second.proxy.heal()
                await eventually(lambda: _alone(cluster, witness, first), WITHIN_S)
                await eventually(lambda: second.instance.running == 0, WITHIN_S)
            assert await settled(cluster, witness, "call-1") == placed.session_id
            await survivor_writes(cluster, witness, "call-1", placed.session_id)
            assert witness.of("call-1", instance_id=second.id)[-1].session.end_reason == "lost"
            assert not sightings.without(is_live)

    await asyncio.gather(scenario(newer_is_heard_first=True), scenario(newer_is_heard_first=False))


async def _owns_above(cluster: ProxiedCluster, member: Member, fence: int) -> bool:
    active = await cluster.active("call-1")
    return [one.instance_id for one in active] == [member.id] and active[0].fence > fence


async def _alone(cluster: ProxiedCluster, witness: Witness, member: Member) -> bool:
    owners = [session.instance_id for session in await cluster.active("call-1")]
    return owners == [member.id] and [run.instance_id for run in witness.going("call-1")] == [member.id]


@pytest.mark.slow
async def test_g4_an_owner_cut_off_while_its_session_is_given_away_finds_it_lost(redis_server):
    async def scenario(policy: str) -> None:
        witness = Witness()
        async with ProxiedCluster(redis_server) as cluster:
            old = await cluster.member("old", witness.tick, on_network_partition=policy)
            placed = await old.start("call-1")
            new = await cluster.member("new", witness.count, on_network_partition=policy)
            await cluster.watchdog()
            cut_off = await witness.begun("call-1")
            async with cluster.watching("call-1") as sightings:
                await cut_off_past_the_lease(old, witness, "call-1", policy)
                await witness.begun("call-1", instance_id=new.id)
                assert cut_off.over == (policy == "stop")
                old.proxy.heal()
                assert await settled(cluster, witness, "call-1") == placed.session_id
                (taken_over,) = witness.going("call-1")
                assert taken_over.instance_id == new.id
                await eventually(lambda: old.instance.running == 0, WITHIN_S)
                assert cut_off.session.end_reason == "lost"
                await survivor_writes(cluster, witness, "call-1", placed.session_id)
            assert not sightings.without(is_live)
            assert len(witness.runs) == 2
            assert [event.event for event in await cluster.events("call-1")].count("session.takeover") == 1

    await asyncio.gather(*(scenario(policy) for policy in POLICIES))


@pytest.mark.slow
async def test_g4_an_owner_cut_off_for_a_while_goes_on_with_a_session_that_nobody_took(redis_server):
    async def scenario(policy: str) -> None:
        witness = Witness()
        async with ProxiedCluster(redis_server) as cluster:
            owner = await cluster.member("owner", witness.count, on_network_partition=policy)
            idle = await cluster.member("idle", witness.tick, on_network_partition=policy)
            await owner.start("call-1")
            await idle.start("call-2")
            first = await witness.begun("call-1")
            await witness.begun("call-2")
            await cut_off_past_the_lease(idle, witness, "call-2", policy)
            owner.proxy.black_hole()
            # Its checkpoint raises LeaseLost, which leaves the coroutine: whatever the policy is.
            await eventually(lambda: first.over, WITHIN_S)
            idle.proxy.heal()
            owner.proxy.heal()
            await eventually(lambda: len(witness.of("call-1")) == 2, WITHIN_S)
            again = await witness.begun("call-1")
            assert (again.instance_id, again.attempt) == (owner.id, 1)
            assert again.resume["count"] >= first.written
            await eventually(
                lambda: witness.going("call-2") and witness.going("call-2")[0].session.owned, WITHIN_S
            )
            # keep: the very coroutine went on. stop: another one was started here.
            assert len(witness.of("call-2")) == (1 if policy == "keep" else 2)
            assert {run.instance_id for run in witness.of("call-2")} == {idle.id}
            assert {run.attempt for run in witness.of("call-2")} == {1}

    await asyncio.gather(*(scenario(policy) for policy in POLICIES))
