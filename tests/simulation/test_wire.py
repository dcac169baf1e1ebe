"""The wire: what is lost is lost, and what was applied stays applied, as with a real network."""

import asyncio
import contextlib
import random

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from mediaflow.settings import Settings
from mediaflow.store import Changed, Hint, RedisStore
from mediaflow.store.link import Server
from mediaflow.store.single import SingleLink
from mediaflow.testing.loop import VirtualLoop
from mediaflow.testing.server import SimulatedRedis
from mediaflow.testing.wire import Network, SimulatedClient, SimulatedPubSub, Weather, Wire


class Bench:
    """One client of one server."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.redis = SimulatedRedis(loop.time, random.Random(1))
        self.network = Network(loop, self.redis, random.Random(2))
        self.server = Server()
        self.wire = Wire(self.network, self.server)
        self.client = SimulatedClient(self.wire)

    async def set(self, value: str) -> bool:
        """Write, and tell whether there was an answer within a second."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.client.execute_command("SET", "key", value)
                return True
        return False

    def stored(self) -> bytes | None:
        return self.redis.read("GET", "key")


def on_bench(scenario):
    """Make a test of a scenario on a bench."""

    def run():
        loop = VirtualLoop(1)
        loop.run(scenario(Bench(loop)))
        loop.close()

    run.__name__ = scenario.__name__
    return run


@on_bench
async def test_in_fair_weather_a_request_is_answered(bench):
    assert await bench.set("a")
    assert bench.stored() == b"a"


@on_bench
async def test_a_lost_request_was_never_applied(bench):
    assert await bench.set("a")
    bench.network.weather = Weather(request_lost=1)
    assert not await bench.set("b")
    assert bench.stored() == b"a"


@on_bench
async def test_of_a_lost_reply_the_script_was_applied_all_the_same(bench):
    assert await bench.set("a")
    bench.network.weather = Weather(reply_lost=1)
    assert not await bench.set("b")
    assert bench.stored() == b"b"


@on_bench
async def test_what_a_process_sent_arrives_though_it_was_killed_since(bench):
    assert await bench.set("a")
    bench.wire.request_delay_s = 0.5
    loop = bench.network.loop
    node = loop.node("a process")
    loop.spawn(node, bench.set("b"))
    await asyncio.sleep(0.1)
    loop.kill(node)
    assert bench.stored() == b"a"
    await asyncio.sleep(0.5)
    assert bench.stored() == b"b"


@on_bench
async def test_on_a_slow_way_a_request_is_applied_late(bench):
    assert await bench.set("a")
    bench.wire.request_delay_s = 2.0
    assert not await bench.set("b")
    assert bench.stored() == b"a"
    await asyncio.sleep(1.5)
    assert bench.stored() == b"b"


@on_bench
async def test_on_a_slow_way_back_a_request_was_applied_long_before_its_answer(bench):
    assert await bench.set("a")
    bench.wire.reply_delay_s = 0.9
    asking = asyncio.ensure_future(bench.set("b"))
    await asyncio.sleep(0.1)
    assert bench.stored() == b"b"
    assert not asking.done()
    assert await asking


@on_bench
async def test_what_a_frozen_server_was_sent_is_applied_when_it_thaws_though_nobody_waits_any_more(bench):
    assert await bench.set("a")
    bench.redis.frozen = True
    assert not await bench.set("b")
    assert bench.stored() == b"a"
    bench.network.thaw()
    assert bench.stored() == b"b"


@on_bench
async def test_a_restart_breaks_what_is_under_way_and_shows_as_another_server(bench):
    assert await bench.set("a")
    before = bench.server.generation
    asking = asyncio.ensure_future(bench.client.execute_command("SET", "key", "b"))
    await asyncio.sleep(0)
    bench.redis.restart(None)
    bench.network.break_all()
    with pytest.raises(RedisConnectionError):
        await asking
    assert await bench.set("c")
    assert bench.server.generation == before + 1
    assert bench.stored() == b"c"


@on_bench
async def test_cut_off_from_replies_only_a_process_still_has_its_requests_applied(bench):
    assert await bench.set("a")
    bench.wire.replies_cut = True
    assert not await bench.set("b")
    assert bench.stored() == b"b"
    bench.wire.replies_cut = False
    assert await bench.set("c")


@on_bench
async def test_messages_come_in_order_and_may_be_doubled_or_lost(bench):
    subscription = bench.client.pubsub()
    await subscription.subscribe("news")
    assert (await subscription.get_message(timeout=1))["type"] == "subscribe"
    for number in range(5):
        bench.redis.apply(("PUBLISH", "news", number))
    found = [(await subscription.get_message(timeout=1))["data"] for _ in range(5)]
    assert found == [b"0", b"1", b"2", b"3", b"4"]
    bench.network.weather = Weather(message_doubled=1)
    bench.redis.apply(("PUBLISH", "news", "x"))
    assert [(await subscription.get_message(timeout=1))["data"] for _ in range(2)] == [b"x", b"x"]
    bench.network.weather = Weather(message_lost=1)
    bench.redis.apply(("PUBLISH", "news", "y"))
    assert await subscription.get_message(timeout=1) is None


class Deaf(SimulatedPubSub):
    """A subscription that was lost on its way; PINGs on its connection are answered."""

    async def subscribe(self, channel: str) -> None:
        self.channel = channel


@on_bench
async def test_a_subscription_is_not_believed_before_it_is_confirmed(bench):
    connections = [Deaf(bench.wire), SimulatedPubSub(bench.wire)]
    bench.client.pubsub = lambda: connections.pop(0)
    store = RedisStore(SingleLink(bench.client, bench.server), Settings(namespace="n"))
    messages = store.inbox("ann")
    async with asyncio.timeout(30):
        assert await anext(messages) == Changed("resync")
        session_id = "018bcfe568f8-000-00000000f8"
        bench.redis.apply(("PUBLISH", "n:inbox:ann", f"hint {session_id}"))
        assert await anext(messages) == Hint(session_id)
