"""A network that fails between one worker and the rest: silence, slowness, replies that never come, pulled cables."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest
from harness.namespaces import NotPermitted, Switch
from harness.proxy import Proxy
from harness.stage import TTL_S, Stage

pytestmark = [pytest.mark.redis, pytest.mark.slow]

POLICIES = ("keep", "stop")


class Apart(NamedTuple):
    """Workers named ``keep`` and ``stop`` for what they do when cut off, and how to cut off both."""

    stage: Stage
    cut: Callable[[], None]
    mend: Callable[[], None]


@contextlib.asynccontextmanager
async def in_namespaces(open_stage, new_redis, switch: Switch) -> AsyncIterator[Apart]:
    """Each of the two is a host of its own, and so is everything else."""
    with contextlib.ExitStack() as stack:
        server = new_redis("--bind", f"127.0.0.1 {switch.address}", "--protected-mode", "no")
        stage = open_stage(server.url)
        stack.callback(stage.fleet.close)
        cables = {policy: switch.connect() for policy in POLICIES}
        await stage.open("steady")
        redis = ("--redis", f"redis://{switch.address}:{server.port}/0")
        for policy, cable in cables.items():
            here = ("--host", cable.address, "--on-network-partition", policy)
            await stage.join(policy, *redis, *here, inside=cable.inside)

        def cut() -> None:
            for cable in cables.values():
                cable.pull()

        def mend() -> None:
            for cable in cables.values():
                cable.plug()

        yield Apart(stage, cut, mend)


@contextlib.asynccontextmanager
async def behind_proxies(open_stage, new_redis) -> AsyncIterator[Apart]:
    """Each of the two has a loopback address of its own, from and to which a proxy forwards."""
    server = new_redis()
    stage = open_stage(server.url)
    async with contextlib.AsyncExitStack() as stack:
        proxies: list[Proxy] = []
        await stage.open("steady")
        for number, policy in enumerate(POLICIES, start=2):
            outward = await stack.enter_async_context(Proxy(server.port, host=f"127.0.1.{number}"))
            own = f"127.0.0.{number}"
            inward = await stack.enter_async_context(Proxy(0, host=f"127.0.1.{number}", target_host=own))
            worker = await stage.join(
                policy,
                *("--redis", outward.url, "--host", own, "--advertise", inward.address),
                *("--on-network-partition", policy),
            )
            inward.target_port = int(worker.address.rpartition(":")[2])
            proxies += [outward, inward]

        def cut() -> None:
            for proxy in proxies:
                proxy.black_hole()

        def mend() -> None:
            for proxy in proxies:
                proxy.heal()

        yield Apart(stage, cut, mend)


@contextlib.asynccontextmanager
async def two_apart(open_stage, new_redis) -> AsyncIterator[Apart]:
    """Network namespaces where they can be made, loopback addresses elsewhere."""
    with contextlib.ExitStack() as stack:
        try:
            switch = stack.enter_context(Switch())
        except NotPermitted as reason:
            print(f"loopback addresses and proxies stand in for hosts: {reason}")
            apart = behind_proxies(open_stage, new_redis)
        else:
            apart = in_namespaces(open_stage, new_redis, switch)
        async with apart as two:
            yield two


async def test_g3_hosts_cut_off_for_two_leases_lose_their_calls_and_come_back_as_workers(
    open_stage, new_redis
):
    async with two_apart(open_stage, new_redis) as (stage, cut, mend):
        await stage.seen(3)
        calls = {name: await stage.fill(15, to=name, every_s=0.2, prefix=name) for name in POLICIES}
        call_ids = [call_id for of_one in calls.values() for call_id in of_one]
        for name in POLICIES:
            stage.story.fault("cut", name, "both")
            stage.story.fault("unreachable", name)
        cut()
        async with stage.load(lasts=5):
            await asyncio.sleep(2 * TTL_S)
            # Who was cut off has lost all of it, and the balancer has lost neither its head nor a call.
            await stage.all_write(call_ids, by="steady")
            mend()
            for name in POLICIES:
                stage.story.fault("mended", name)
                stage.story.fault("reachable", name)
            await stage.seen(3)
        for name in POLICIES:
            await stage.fill(5, to=name, prefix=f"later-{name}")
        await stage.judge()
    ends = {
        (entry.instance_id, entry.call_id): entry
        for entry in stage.story.entries()
        if entry.what == "end" and entry.call_id in call_ids and entry.instance_id in POLICIES
    }
    assert ends.keys() == {(name, call_id) for name in POLICIES for call_id in calls[name]}


async def test_g3_a_worker_whose_redis_falls_silent_is_slow_or_loses_replies_disturbs_nobody(
    open_stage, redis_server
):
    stage = open_stage(redis_server.url)
    async with contextlib.AsyncExitStack() as stack:
        proxies = {
            name: await stack.enter_async_context(Proxy(redis_server.port))
            for name in ("silent", "deaf", "slow", "lossy")
        }
        await stage.open(
            "steady", *proxies, **{name: ("--redis", proxy.url) for name, proxy in proxies.items()}
        )
        calls = {name: await stage.fill(10, to=name, every_s=0.2, prefix=name) for name in proxies}
        call_ids = [call_id for of_one in calls.values() for call_id in of_one]
        stage.story.fault("cut", "silent", "both")
        proxies["silent"].black_hole()
        stage.story.fault("cut", "deaf", "replies")
        proxies["deaf"].hold_replies()
        proxies["slow"].delay(0.05)
        proxies["lossy"].lose_replies(b"EVALSHA", one_in=5)
        async with stage.load(lasts=5):
            await asyncio.sleep(2 * TTL_S)
            await stage.all_write([*calls["silent"], *calls["deaf"]])
            # Slow and lossy are not dead: theirs stay where they are.
            for name in ("slow", "lossy"):
                await stage.all_write(calls[name], by=name)
            for name, proxy in proxies.items():
                proxy.heal()
                stage.story.fault("mended", name) if name in ("silent", "deaf") else None
        assert proxies["lossy"].lost_replies > 5
        await stage.all_write(call_ids)
        await stage.judge()
    moved = {
        entry.call_id
        for entry in stage.story.starts()
        if entry.call_id in calls["slow"] and entry.instance_id != "slow"
    }
    assert not moved
