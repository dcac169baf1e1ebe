"""A Redis that freezes, dies, forgets, is full, or throws its clients and scripts out, under real workers."""

import asyncio
import re
from collections import Counter

import pytest
from harness.proxied import meanwhile
from harness.stage import PATIENCE_S, TTL_S
from harness.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]


def started(stage) -> Counter[str]:
    """Return how often each call's handler was begun because of a new owner, and not again where it was."""
    places = {(entry.call_id, entry.instance_id) for entry in stage.story.starts()}
    return Counter(call_id for call_id, _ in places)


async def test_g8_a_redis_that_stood_still_for_three_leases_costs_none_of_300_sessions_its_owner(
    stage, redis_server
):
    await stage.open("w1", "w2", "w3", slots=150)
    call_ids = await stage.fill(300, every_s=1.0)
    stage.story.fault("frozen")
    redis_server.freeze()
    await asyncio.sleep(3 * TTL_S)
    redis_server.thaw()
    stage.story.fault("thawed")
    await stage.all_write(call_ids)
    # The watchdog has long been sweeping again when a lease has passed.
    await asyncio.sleep(TTL_S)
    await stage.judge()
    assert set(started(stage).values()) == {1}, "taken over"
    for call_id in call_ids[::10]:
        events = [event["event"] for event in await stage.api.history(call_id)]
        assert events == ["session.created", "session.activated"]


async def test_g7_a_redis_that_lost_everything_under_load_loses_no_call_that_an_owner_runs(
    stage, redis_server
):
    await stage.open("w1", "w2", "w3")
    call_ids = await stage.fill(60)
    async with stage.load(lasts=5) as load:
        for away_s in (0.0, TTL_S):
            await asyncio.sleep(1.0)
            await asyncio.to_thread(redis_server.stop)
            stage.story.fault("stopped")
            await asyncio.sleep(away_s)
            await asyncio.to_thread(redis_server.start)
            stage.story.fault("emptied")
            await stage.all_write(call_ids)
        came = len(load)
        await eventually(lambda: len(load) > came + 5, PATIENCE_S)
    await asyncio.sleep(2 * TTL_S)
    await stage.judge()
    assert {started(stage)[call_id] for call_id in call_ids} == {1}, "begun elsewhere, though its owner lived"


async def test_g2_a_redis_with_an_append_only_file_that_is_killed_under_load_forgets_nothing(
    open_stage, new_redis
):
    server = new_redis("--appendonly", "yes", "--appendfsync", "everysec")
    stage = open_stage(server.url)
    await stage.open("w1", "w2", slots=50)
    call_ids = await stage.fill(40)
    # More than fit: these wait, held by nobody but Redis.
    waiting = [f"waiting-{number}" for number in range(80)]
    answers = await asyncio.gather(*(stage.submit(call_id, {"every_s": 0.5}) for call_id in waiting))
    assert {answer.body["state"] for answer in answers} == {"active", "pending"}
    for _ in range(2):
        stage.story.fault("stopped")
        await asyncio.to_thread(server.restart)
        stage.story.fault("thawed")
        await stage.all_write(call_ids)
    again = await asyncio.gather(*(stage.submit(call_id, {"every_s": 0.5}) for call_id in waiting))
    assert [(one.status, one.body["sessionId"]) for one in again] == [
        (201, one.body["sessionId"]) for one in answers
    ]
    await stage.join("w3", slots=50)
    await stage.judge()
    assert set(started(stage).values()) == {1}
    assert started(stage).keys() == {*call_ids, *waiting}


async def test_g3_scripts_flushed_and_clients_thrown_out_again_and_again_are_not_noticed(stage, redis_server):
    async def nuisance() -> None:
        while True:
            redis_server.command("SCRIPT", "FLUSH")
            await asyncio.sleep(0.15)
            redis_server.command("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(0.15)
            redis_server.command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(0.15)

    await stage.open("w1", "w2", "w3")
    call_ids = await stage.fill(50)
    async with meanwhile(nuisance()), stage.load(lasts=5):
        await asyncio.sleep(TTL_S)
        await stage.kill("w1")  # and what has to be done is done all the same
        await stage.all_write(call_ids)
        await asyncio.sleep(TTL_S)
    await stage.judge()


async def test_g9_a_redis_at_its_memory_limit_refuses_new_calls_and_moves_and_ends_those_it_has(
    stage, redis_server
):
    await stage.open("w1", "w2", "w3")
    call_ids = await stage.fill(50)
    used = int(re.search(rb"used_memory:(\d+)", redis_server.command("INFO", "memory"))[1])
    redis_server.command("CONFIG", "SET", "maxmemory", str(used // 2))
    try:
        during = [f"during-{number}" for number in range(5)]
        refused = await asyncio.gather(*(stage.submit(call_id) for call_id in during))
        assert {answer.status for answer in refused} == {503}
        assert all("maxmemory" in answer.body["detail"] for answer in refused)
        await asyncio.sleep(1.5 * TTL_S)  # every lease has to be renewed several times
        assert set(started(stage).values()) == {1}
        await stage.kill("w1")
        assert await stage.story.end(stage.api, call_ids[0]) == 204
        await stage.all_write(call_ids[1:])
    finally:
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
    taken = await asyncio.gather(*(stage.submit(call_id) for call_id in during))
    assert {(answer.status, answer.body["created"]) for answer in taken} == {(201, True)}
    await stage.judge()
