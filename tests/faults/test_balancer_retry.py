"""G2: an answer that was lost on its way never makes a second session, whoever asks again."""

import asyncio
import json
import random
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from harness.proxied import ProxiedCluster, Witness, meanwhile
from harness.proxy import Proxy
from harness.waiting import eventually

from mediaflow.loadbalancer.balancer import Balancer
from mediaflow.loadbalancer.courier import HttpCourier, Request
from mediaflow.loadbalancer.roster import Roster
from mediaflow.runtime.clock import SystemClock
from mediaflow.runtime.instance import Instance
from mediaflow.web.events import EventFeed
from mediaflow.worker.app import surface

pytestmark = pytest.mark.redis

WITHIN_S = 10.0
CALLS = [f"call-{number}" for number in range(12)]
BODY = b'{"room": 7}'


class Behind:
    """Two instances, each behind a proxy in front of its HTTP port, and a balancer of little patience."""

    def __init__(self, balancer: Balancer, proxies: dict[str, Proxy]) -> None:
        self.balancer = balancer
        self.proxies = proxies


@asynccontextmanager
async def behind_proxies(cluster: ProxiedCluster, witness: Witness, slots: dict[str, int]):
    async with AsyncExitStack() as stack:
        proxies: dict[str, Proxy] = {}
        for name, count in slots.items():
            settings = cluster.settings(instance_id=name, slots=count)
            store = await cluster.open_store()
            proxy = proxies[name] = await stack.enter_async_context(Proxy(0))
            instance = Instance(store, witness.hold, settings, address=proxy.address)
            stack.push_async_callback(instance.abort)
            await instance.__aenter__()
            face = surface(instance, store, settings, EventFeed(store))
            server = await stack.enter_async_context(TestServer(face.application()))
            proxy.target_port = server.port
        roster = Roster(cluster.store, SystemClock(), random.Random(1))
        await stack.enter_async_context(meanwhile(roster.run()))
        client = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.5))
        )
        await eventually(lambda: len(roster.live()) == len(slots), WITHIN_S)
        yield Behind(Balancer(roster, HttpCourier(client), "queue"), proxies)


@pytest.mark.parametrize("fault", ["late", "lost"])
async def test_g2_an_answer_that_does_not_reach_the_balancer_makes_no_second_session(redis_server, fault):
    witness = Witness()
    async with (
        ProxiedCluster(redis_server) as cluster,
        # Nearly all slots are where answers do not come from: that one is asked first.
        behind_proxies(cluster, witness, {"silent": 1000, "other": 20}) as stage,
    ):
        silent = stage.proxies["silent"]
        if fault == "late":
            silent.hold_replies()
        else:
            for _ in CALLS:
                silent.lose_reply(b"POST /calls/")
        answers = await asyncio.gather(
            *(stage.balancer.place(Request(call_id, BODY, None)) for call_id in CALLS)
        )
        silent.heal()
        bodies = [json.loads(answer.body) for answer in answers]
        assert {answer.status for answer in answers} == {201}
        assert {body["created"] for body in bodies} == {True}
        assert sum(body["owner"] == "silent" for body in bodies) >= len(CALLS) - 2
        await eventually(lambda: len(witness.runs) >= len(CALLS), WITHIN_S)
        for call_id, body in zip(CALLS, bodies, strict=True):
            call = await cluster.call(call_id)
            (session,) = call.sessions
            assert (call.state, session.session_id) == ("active", body["sessionId"])
            (run,) = witness.of(call_id)
            assert (run.session_id, run.instance_id) == (body["sessionId"], body["owner"])
