"""Redis away: players play on, nobody is refused for a fault of ours, and all is counted again when it is back."""

import asyncio

import pytest
import redis
from harness.limiters import Bench, ending, outcome
from harness.proxy import Proxy
from harness.stopwatch import Stopwatch
from harness.topologies import OneServer
from harness.waiting import eventually

from mediaflow.limiter import StreamUnknown
from mediaflow.store import StoreUnavailable

pytestmark = pytest.mark.redis

ANSWER_WITHIN_S = 0.5
SLACK_S = 0.15
"""For a machine that has other things to do."""


@pytest.fixture
async def bench(redis_server):
    raw = redis.Redis(port=redis_server.port, protocol=2)
    async with Bench(redis_server.url, raw) as made:
        yield made
    raw.close()


async def timed(asking):
    watch = Stopwatch()
    try:
        with watch:
            return await asking
    finally:
        watch.assert_within(ANSWER_WITHIN_S + SLACK_S, "it was answered")


def stopped(server):
    server.stop()
    return server.start


def frozen(server):
    server.freeze()
    return server.thaw


@pytest.mark.parametrize("away", [stopped, pytest.param(frozen, marks=pytest.mark.slow)])
async def test_players_play_on_uncounted_and_are_counted_again_without_a_restart(bench, redis_server, away):
    limiter = await bench.open(stream_limit=2)
    counted = await limiter.start("user", "phone")
    back = away(redis_server)

    beaten = await timed(limiter.heartbeat("user", counted.stream_id))
    assert (beaten.degraded, beaten.stream_id, beaten.device_id) == (True, counted.stream_id, "phone")
    assert beaten.token, "the key is known"
    uncounted = [await timed(limiter.start("user", f"device-{n}", {"title": "x"}, limit=7)) for n in range(3)]
    assert [(one.degraded, one.limit, one.active) for one in uncounted] == [(True, 7, 1)] * 3
    assert len({one.stream_id for one in uncounted}) == 3
    await timed(limiter.stop("user", uncounted[0].stream_id))
    with pytest.raises(StreamUnknown):
        await timed(limiter.heartbeat("other", counted.stream_id))
    with pytest.raises(StoreUnavailable):
        await timed(limiter.list("user"))
    with pytest.raises(StoreUnavailable):
        await timed(limiter.set_limit("user", 1))
    assert limiter.problem
    assert limiter.counts["degraded"] == 5
    assert limiter.counts["refused"] == 0

    back()

    async def beats():
        return not (await limiter.heartbeat("user", counted.stream_id)).degraded

    await eventually(beats, within_s=5)
    assert limiter.problem == ""
    # A frozen server may carry out now what it was asked for in its sleep: each is counted all the same.
    found = [await outcome(limiter.heartbeat("user", one.stream_id)) for one in uncounted]
    assert "fine" in found
    assert (await limiter.list("user")).active == 1 + found.count("fine")
    assert await outcome(limiter.start("user", "one too many")) == "refused"


async def test_a_degraded_stream_that_no_longer_fits_has_ended(bench, redis_server):
    limiter = await bench.open(stream_limit=1)
    await limiter.jwks()
    redis_server.stop()
    uncounted = [await limiter.start("user", f"device-{n}") for n in range(2)]
    redis_server.start()
    assert await outcome(limiter.heartbeat("user", uncounted[1].stream_id)) == "fine"
    assert (await ending(limiter.heartbeat("user", uncounted[0].stream_id))).reason == "expired"
    assert [one.device_id for one in (await limiter.list("user")).streams] == ["device-1"]
    assert limiter.counts["readmitted"] == 1


async def test_where_it_is_denied_nobody_plays_uncounted(bench, redis_server):
    limiter = await bench.open(on_store_down="deny")
    begun = await limiter.start("user", "phone")
    redis_server.stop()
    for asked in (
        lambda: limiter.start("user", "tv"),
        lambda: limiter.heartbeat("user", begun.stream_id),
        lambda: limiter.stop("user", begun.stream_id),
    ):
        with pytest.raises(StoreUnavailable):
            await timed(asked())
    assert limiter.counts["degraded"] == 0
    redis_server.start()
    assert await outcome(limiter.heartbeat("user", begun.stream_id)) == "fine"


async def test_one_who_never_knew_a_key_stops_nobody(bench, redis_server):
    elsewhere = await bench.open()
    counted = await elsewhere.start("user", "phone")
    redis_server.stop()
    limiter = await bench.open()
    assert await timed(limiter.jwks()) == {"keys": []}
    beaten = await timed(limiter.heartbeat("user", counted.stream_id))
    assert (beaten.degraded, beaten.token, beaten.stream_id) == (True, None, counted.stream_id)
    uncounted = await timed(limiter.start("user", "tv"))
    assert (uncounted.degraded, uncounted.token) == (True, None)
    assert await outcome(limiter.heartbeat("user", "made up")) == "unknown"
    redis_server.start()
    # Whoever comes first makes the key; here it is the one that had it before, so that its ids live on.
    assert await outcome(elsewhere.heartbeat("user", counted.stream_id)) == "fine"
    assert (await elsewhere.jwks())["keys"]
    agreed = await limiter.heartbeat("user", uncounted.stream_id)
    assert (agreed.degraded, agreed.active) == (False, 2)
    assert agreed.token
    assert await outcome(elsewhere.heartbeat("user", agreed.stream_id)) == "fine", (
        "now every replica knows it"
    )


async def test_a_redis_that_lost_its_data_gets_the_key_back(bench, redis_server):
    one = await bench.open()
    begun = await one.start("user", "phone")
    keys = await one.jwks()
    redis_server.restart()
    assert await outcome(one.heartbeat("user", begun.stream_id)) == "fine"
    await one.heartbeat("user", begun.stream_id)
    newcomer = await bench.open()
    assert await newcomer.jwks() == keys
    assert await outcome(newcomer.heartbeat("user", begun.stream_id)) == "fine"


async def test_a_key_that_another_made_meanwhile_wins_and_ids_of_before_stay_known(bench, redis_server):
    one = await bench.open()
    begun = await one.start("user", "phone")
    before = await one.jwks()
    redis_server.restart()
    newcomer = await bench.open()
    assert await newcomer.jwks() != before
    beaten = await one.heartbeat("user", begun.stream_id)
    beaten = await one.heartbeat("user", beaten.stream_id)
    assert await one.jwks() == await newcomer.jwks()
    assert await outcome(newcomer.heartbeat("user", beaten.stream_id)) == "fine"
    assert await outcome(one.heartbeat("user", begun.stream_id)) == "fine"
    assert (await newcomer.list("user")).active == 1


@pytest.mark.parametrize("what", ["start", "heartbeat", "stop"])
async def test_a_lost_reply_changes_nothing(bench, redis_server, what):
    async with Proxy(redis_server.port) as proxy:
        limiter = await bench.open(redis=proxy.url, stream_limit=1)
        begun = await limiter.start("user", "phone")
        await limiter.heartbeat("user", begun.stream_id)
        await limiter.stop("user", begun.stream_id)
        started = limiter.counts["started"]
        if what != "start":
            begun = await limiter.start("user", "tv")
        proxy.lose_reply(b"EVALSHA")
        if what == "start":
            again = await limiter.start("user", "tv")
            assert (again.degraded, again.active) == (False, 1)
            assert limiter.counts["started"] == started + 1
        elif what == "heartbeat":
            assert await outcome(limiter.heartbeat("user", begun.stream_id)) == "fine"
        else:
            assert await outcome(limiter.stop("user", begun.stream_id)) == "fine"
        assert proxy.lost_replies == 1
        assert (await limiter.list("user")).active == (0 if what == "stop" else 1)
        await limiter.__aexit__(None, None, None)


async def test_a_silence_of_the_network_is_answered_in_time_and_many_at_once(bench, redis_server):
    async with Proxy(redis_server.port) as proxy:
        limiter = await bench.open(redis=proxy.url, stream_limit=1)
        await limiter.jwks()
        await limiter.start("warm", "up")
        proxy.black_hole()
        answers = await timed(asyncio.gather(*(limiter.start(f"user-{n}", "phone") for n in range(100))))
        assert all(one.degraded for one in answers)
        proxy.heal()

        async def is_back():
            return not (await limiter.heartbeat("user-0", answers[0].stream_id)).degraded

        await eventually(is_back, within_s=5)
        beats = await asyncio.gather(
            *(outcome(limiter.heartbeat(f"user-{n}", one.stream_id)) for n, one in enumerate(answers))
        )
        assert set(beats) == {"fine"}
        assert (await limiter.list("user-7")).active == 1, "asked for twice, it is one stream"
        await limiter.__aexit__(None, None, None)


async def test_a_full_redis_lets_players_play_on():
    from conftest import needs_redis

    needs_redis()
    place = OneServer()
    try:
        async with Bench(place.url, place.raw, stream_limit=1) as bench:
            limiter = await bench.open()
            begun = await limiter.start("user", "phone")
            place.server.command("CONFIG", "SET", "maxmemory", "1mb")
            assert (await timed(limiter.start("user", "tv"))).degraded
            assert await outcome(limiter.heartbeat("user", begun.stream_id)) == "fine", "what plays, plays on"
            await limiter.stop("user", begun.stream_id)
            place.server.command("CONFIG", "SET", "maxmemory", "0")
            assert await outcome(limiter.start("user", "tv")) == "fine"
    finally:
        place.close()
