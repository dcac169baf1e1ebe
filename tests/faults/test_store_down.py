"""G9: with Redis out of reach every program says so, and mends itself when Redis is back."""

import asyncio

import pytest
from harness.api import Api
from harness.proxied import TTL_S, ProxiedCluster, Witness
from harness.stopwatch import Stopwatch
from harness.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]

WITHIN_S = 15.0


async def refused(api: Api, method: str, path: str) -> None:
    """See that a request is refused as problem JSON that says when to come again."""
    answer = await api.ask(method, path, json={} if method == "POST" else None)
    assert answer.status == 503, (method, path, answer)
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.body["status"] == 503
    assert answer.body["title"]
    assert answer.body["detail"]


async def is_ready(api: Api) -> bool:
    return (await api.ask("GET", "/readyz")).status == 200


async def test_g9_programs_started_without_redis_serve_say_so_and_mend_themselves(fleet, http, redis_server):
    redis_server.stop()
    fleet.flags += ("--lease-ttl", "3")
    worker, balancer, watchdog = await asyncio.gather(
        fleet.worker("one", 10), fleet.balancer(), fleet.watchdog()
    )
    programs = {program.name: Api(http, program.url) for program in (worker, balancer, watchdog)}
    placing = [programs["mediaflow.worker"], programs["mediaflow.loadbalancer"]]

    async def all_refuse() -> None:
        for api in programs.values():
            assert (await api.ask("GET", "/healthz")).status == 200
        await asyncio.gather(
            *(refused(api, "GET", "/readyz") for api in programs.values()),
            *(
                refused(api, method, path)
                for api in placing
                for method, path in (
                    ("POST", "/calls/call-1"),
                    ("GET", "/calls/call-1"),
                    ("DELETE", "/calls/call-1"),
                    ("GET", "/calls"),
                )
            ),
        )

    async def all_ready() -> bool:
        return all([await is_ready(api) for api in programs.values()])

    async def none_ready() -> bool:
        return not any([await is_ready(api) for api in programs.values()])

    await all_refuse()

    await asyncio.to_thread(redis_server.start)
    await eventually(all_ready, WITHIN_S, about="all are ready, not having been restarted")
    answer = await eventually(lambda: placing[1].submit("call-1"), WITHIN_S, until=lambda a: a.status == 201)
    session_id = answer.body["sessionId"]

    redis_server.stop()
    await eventually(none_ready, WITHIN_S, about="none is ready")
    await all_refuse()
    assert await placing[0].gauge("sessions") == 1

    await asyncio.to_thread(redis_server.start)
    await eventually(all_ready, WITHIN_S)
    await the_session_is_put_back(placing[1], session_id)

    for program in (worker, balancer, watchdog):
        assert program.returncode is None
        said = [line for line in (*program.stdout, *program.stderr) if _tells_of_it(line)]
        assert 1 <= len(said) <= 2, f"{program.report()}\n{said}"  # once for each time that it was away


async def the_session_is_put_back(api: Api, session_id: str) -> None:
    """Ask for the call again and again: its session is back, for good, and was never more than doubled.

    Asked before the owner has put its session back, Redis makes a sibling. It is the junior, and yields (G7, G4).
    """
    named: list[str] = []

    async def ask() -> bool:
        answer = await api.submit("call-1")
        assert answer.status in (200, 201), answer
        named.append(answer.body["sessionId"])
        return named[-1] == session_id

    async def alone() -> bool:
        live = [one for one in (await api.call("call-1"))["sessions"] if one["state"] == "active"]
        return [one["sessionId"] for one in live] == [session_id]

    with Stopwatch() as watch:
        await eventually(ask, 3 * WITHIN_S)
        await eventually(alone, 3 * WITHIN_S)
    # By the owner's first renewal it is back, and by the sibling's first renewal that one is gone.
    watch.assert_within(TTL_S, "the session that Redis had lost was the call's only one again")
    assert len(set(named)) <= 2, named
    for _ in range(10):
        assert await ask()


def _tells_of_it(line: str) -> bool:
    return '"level": "warning"' in line or '"level":"warning"' in line or "[warning" in line


async def test_g9_an_instance_that_is_told_to_drain_while_redis_is_away_ends_when_its_leases_have(
    redis_server,
):
    witness = Witness()
    async with ProxiedCluster(redis_server) as cluster:
        member = await cluster.member("one", witness.hold)
        await member.start("call-1")
        run = await witness.begun("call-1", ticks=1)
        other = await cluster.member("other", witness.hold)
        await cluster.watchdog()
        member.proxy.black_hole()
        async with asyncio.timeout(2 * TTL_S):
            await member.instance.drain()
        assert run.over
        taken_over = await witness.begun("call-1", instance_id=other.id, ticks=1)
        assert taken_over.resume == {"left by": "call-1"}
