"""G7: a Redis that lost everything is told again by the owners that live."""

import asyncio
import json

import pytest
from harness.proxied import TTL_S, ProxiedCluster, Witness
from harness.redis import RedisServer
from harness.waiting import eventually

pytestmark = pytest.mark.redis

WITHIN_S = 10.0
CALLS = [f"{kind}-{number}" for kind in ("hold", "count") for number in range(6)]


async def lose_by_flush(server: RedisServer) -> None:
    server.command("FLUSHALL")


async def lose_by_crash(server: RedisServer) -> None:
    await asyncio.to_thread(server.restart)


@pytest.mark.slow
async def test_g7_live_owners_put_their_sessions_back_and_none_is_lost_or_runs_twice(redis_server, new_redis):
    await asyncio.gather(
        _all_lost_and_put_back(redis_server, lose_by_flush),
        _all_lost_and_put_back(new_redis(), lose_by_crash),
    )


async def _all_lost_and_put_back(server: RedisServer, lose) -> None:
    witness = Witness()

    async def handler(session):
        await (witness.hold if session.call_id.startswith("hold") else witness.count)(session)

    async with ProxiedCluster(server) as cluster:
        members = [await cluster.member(name, handler) for name in ("one", "two")]
        await cluster.watchdog()
        placed = {}
        for number, call_id in enumerate(CALLS):
            owner = members[number % 2]
            placed[call_id] = await owner.start(
                call_id, json.dumps({"room": number}).encode(), key=f"key of {call_id}"
            )
        for call_id in CALLS:
            await witness.begun(call_id, ticks=1)
        details = {call_id: (await cluster.active(call_id))[0].details for call_id in CALLS}
        counted = {call_id: cluster.checkpoint(placed[call_id].session_id)[0] for call_id in CALLS}

        await lose(server)

        async def put_back() -> bool:
            found = [await cluster.active(call_id) for call_id in CALLS]
            return all(len(one) == 1 and one[0].lease_remaining_ms > 0 for one in found)

        await eventually(put_back, WITHIN_S, about="all sessions are back")
        await asyncio.sleep(2 * TTL_S)  # long enough for whatever should go wrong with a lease

        assert len(witness.runs) == len(CALLS)
        assert len(witness.going()) == len(CALLS)
        for number, call_id in enumerate(CALLS):
            (session,) = (await cluster.call(call_id)).sessions
            before = placed[call_id]
            assert (session.session_id, session.instance_id) == (before.session_id, before.owner)
            assert session.fence > before.fence
            assert session.details == details[call_id]
            assert json.loads(cluster.metadata(before.session_id)) == {"room": number}
            checkpoint_number, checkpoint = cluster.checkpoint(before.session_id)
            if call_id.startswith("hold"):
                assert json.loads(checkpoint) == {"left by": call_id}
            else:
                assert checkpoint_number > counted[call_id] + 20
            kinds = [event.event for event in await cluster.events(call_id)]
            assert kinds == ["session.readopted"]
            # Asked of the other instance: the key is found where the session is.
            again = await members[(number + 1) % 2].start(
                call_id, json.dumps({"room": number}).encode(), key=f"key of {call_id}"
            )
            assert (again.session_id, again.created) == (before.session_id, True)
        assert len(witness.runs) == len(CALLS)


async def test_g7_a_call_that_ended_while_redis_forgot_it_is_ended(redis_server):
    told = asyncio.Event()

    async def until_told(session):
        await told.wait()

    async with ProxiedCluster(redis_server) as cluster:
        member = await cluster.member("one", until_told)
        await cluster.watchdog()
        placed = await member.start("call-1")
        redis_server.command("FLUSHALL")
        told.set()

        async def ended() -> bool:
            call = await cluster.call("call-1")
            return call is not None and call.state == "completed"

        await eventually(ended, WITHIN_S)
        (session,) = (await cluster.call("call-1")).sessions
        assert session.session_id == placed.session_id
        assert [event.event for event in await cluster.events("call-1")] == [
            "session.readopted",
            "session.completed",
        ]
        await eventually(lambda: member.instance.running == 0, WITHIN_S)
