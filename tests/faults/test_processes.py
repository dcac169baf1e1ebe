"""Processes that die or stand still: kill -9 and SIGSTOP of workers, watchdogs and balancers."""

import asyncio
from collections import Counter

import pytest
from harness.api import Api
from harness.proxy import Proxy
from harness.stage import PATIENCE_S, TTL_S
from harness.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]


async def test_g6_the_calls_of_killed_workers_run_elsewhere_though_new_ones_keep_coming(stage):
    await stage.open("w1", "w2", "w3", "w4")
    call_ids = await stage.fill(60)
    async with stage.load(lasts=5):
        for victim in ("w1", "w2"):
            await asyncio.sleep(TTL_S)  # each is a death by itself
            await stage.kill(victim)
            await stage.all_write(call_ids)
        # Restarted under its old name, it is another process of it, and takes part again.
        await stage.join("w1")
        await stage.seen(3)
    await stage.judge()


async def test_g3_workers_that_stood_still_for_two_leases_disturb_nobody_when_they_wake(stage):
    sleepers = {policy: ("--on-network-partition", policy) for policy in ("keep", "stop")}
    await stage.open("awake", *sleepers, **sleepers)
    calls = {name: await stage.fill(20, to=name, every_s=0.2, prefix=name) for name in sleepers}
    call_ids = [call_id for of_one in calls.values() for call_id in of_one]
    for name in sleepers:
        stage.pause(name)
    await asyncio.sleep(2 * TTL_S)
    await stage.all_write(call_ids, by="awake")
    for name in sleepers:
        stage.resume(name)
    await eventually(
        lambda: not [run for run in stage.story.running() if run.instance_id in sleepers],
        PATIENCE_S,
        about="what they lost has ended there",
        every_s=0.1,
    )
    await stage.all_write(call_ids)
    # They are workers like any other again.
    for name in sleepers:
        await stage.fill(5, to=name, prefix=f"later-{name}")
    await stage.judge()


async def test_g6_with_one_of_two_watchdogs_frozen_the_other_does_all_and_no_call_is_given_twice(stage):
    await stage.open("w1", "w2", "w3", watchdogs=2)
    call_ids = await stage.fill(40, to="w1")
    frozen, _ = stage.watchdogs
    stage.story.fault("watchdog paused", "1")
    frozen.stop()
    await stage.kill("w1")
    await stage.all_write(call_ids)
    # It wakes up with a picture that is older than a lease, in the midst of another death.
    await asyncio.sleep(TTL_S)
    await stage.kill("w2")
    frozen.cont()
    stage.story.fault("watchdog resumed", "1")
    await stage.all_write(call_ids, by="w3")
    await stage.judge()
    starts = Counter((entry.call_id, entry.instance_id) for entry in stage.story.starts())
    assert set(starts.values()) == {1}, "given twice"


async def test_g2_a_client_that_repeats_after_the_balancer_died_before_its_answer_has_one_session(stage):
    async with Proxy(0) as proxy:
        await stage.open("w1", w1=("--advertise", proxy.address))
        worker = stage.workers["w1"]
        proxy.target_port = int(worker.address.rpartition(":")[2])
        direct = stage.face(worker)
        call_ids = [f"call-{number}" for number in range(10)]

        proxy.hold_replies()
        asked = [asyncio.ensure_future(stage.submit(call_id, {"every_s": 0.5})) for call_id in call_ids]
        await eventually(
            lambda: _active(direct, call_ids), PATIENCE_S, about="the worker has made them", every_s=0.1
        )
        assert not any(one.done() for one in asked)
        stage.balancer.kill()
        stage.story.fault("balancer killed")
        assert {answer.status for answer in await asyncio.gather(*asked)} == {0}
        proxy.heal()

        stage.balancer = stage.fleet.start("loadbalancer")
        await stage.balancer.ready()
        stage.api = stage.face(stage.balancer)
        await stage.seen(1)
        again = await asyncio.gather(*(stage.submit(call_id, {"every_s": 0.5}) for call_id in call_ids * 2))
        assert {(answer.status, answer.body["created"]) for answer in again} == {(201, True)}
        assert len({answer.body["sessionId"] for answer in again}) == len(call_ids)
        # With another key it is simply the call's session; with another body the key is refused.
        assert (await stage.submit("call-1", {"every_s": 0.5}, key="another")).status == 200
        assert (await stage.submit("call-1", {"every_s": 0.6})).status == 422
        await stage.judge()
    assert len(stage.story.starts()) == len(call_ids)


async def _active(api: Api, call_ids: list[str]) -> bool:
    return {call["callId"] for call in await api.calls("active")} == set(call_ids)
