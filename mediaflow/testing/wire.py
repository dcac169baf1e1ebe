"""The network between a process and Redis: what becomes of requests, replies and messages on their way.

It stands where redis-py's client does, below everything of ours: :class:`SimulatedClient` is handed to
:class:`mediaflow.store.single.SingleLink`, which does not know the difference.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from mediaflow.store.link import Server
from mediaflow.testing.server import Message, SimulatedRedis

Words = Sequence[Any]

HOP_S = (0.0001, 0.002)
"""What one way through the network takes, in fair weather."""

LATE_S = (0.05, 4.0)
"""What it takes when it takes long: also longer than anybody waits for an answer."""

CONNECT_TIMEOUT_S = 2.0
VERSION = "6.2.0"


class Weather(msgspec.Struct, frozen=True, kw_only=True):
    """How likely it is that something happens to one thing on its way; all zero is fair weather."""

    request_lost: float = 0.0
    reply_lost: float = 0.0
    late: float = 0.0
    message_lost: float = 0.0
    message_doubled: float = 0.0


class Network:
    """All wires to one server, and the subscriptions at it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, redis: SimulatedRedis, rng: random.Random) -> None:
        """Begin in fair weather."""
        self.loop = loop
        self.redis = redis
        self.random = rng
        self.weather = Weather()
        self.epoch = 0
        self._frozen_requests: list[Callable[[], None]] = []
        self._in_flight: dict[asyncio.Future[Any], None] = {}
        self._subscriptions: dict[SimulatedPubSub, None] = {}
        redis.on_published = self._publish

    def later(self, delay_s: float, action: Callable[..., object], *args: Any) -> None:
        """Do something after a while, whatever becomes of the process that asked for it."""
        self.loop.call_later(delay_s, action, *args, context=Context())

    def hop_s(self) -> float:
        """Draw how long one way takes."""
        shortest, longest = LATE_S if self.random.random() < self.weather.late else HOP_S
        return self.random.uniform(shortest, longest)

    def arrive(self, apply: Callable[[], None]) -> None:
        """Have the server take a request up, once it is not frozen."""
        if self.redis.frozen:
            self._frozen_requests.append(apply)
        else:
            apply()

    def thaw(self) -> None:
        """Let a frozen server go on; it finds all that was sent to it meanwhile."""
        self.redis.frozen = False
        waiting, self._frozen_requests = self._frozen_requests, []
        for apply in waiting:
            apply()

    def break_all(self) -> None:
        """Break all connections: whoever waits for an answer learns that there will be none."""
        self.epoch += 1
        self._frozen_requests.clear()
        for future in list(self._in_flight):
            if not future.done():
                future.set_exception(RedisConnectionError("Connection closed by server."))
        for subscription in list(self._subscriptions):
            subscription.break_off()
        self._subscriptions.clear()

    def track(self, future: asyncio.Future[Any]) -> None:
        """Remember who waits for an answer."""
        self._in_flight[future] = None
        future.add_done_callback(lambda done: self._in_flight.pop(done, None), context=Context())

    def subscribe(self, subscription: "SimulatedPubSub") -> None:
        """Have messages delivered to a subscription from now on."""
        self._subscriptions[subscription] = None

    def unsubscribe(self, subscription: "SimulatedPubSub") -> None:
        """Deliver none any more."""
        self._subscriptions.pop(subscription, None)

    def _publish(self, message: Message) -> None:
        for subscription in list(self._subscriptions):
            if subscription.channel != message[0] or self.random.random() < self.weather.message_lost:
                continue
            for _ in range(2 if self.random.random() < self.weather.message_doubled else 1):
                subscription.send({"type": "message", "data": message[1]})


class Wire:
    """The way of one process to Redis.

    Attributes:
        requests_cut, replies_cut: Nothing comes through, nor an error.
        request_delay_s, reply_delay_s: What the way takes beyond a hop.
    """

    def __init__(self, network: Network, server: Server) -> None:
        """Not connected yet; ``server`` is told whom a new connection has reached."""
        self.network = network
        self.requests_cut = False
        self.replies_cut = False
        self.request_delay_s = 0.0
        self.reply_delay_s = 0.0
        self._server = server
        self._connected_to: int | None = None

    async def exchange(self, commands: Sequence[Words]) -> list[Any]:
        """Send commands over one connection and return the replies; an error stands in its reply's place.

        Raises:
            redis.exceptions.ConnectionError: There is no connection, or it broke: it may have happened.
        """
        try:
            if self._connected_to != self.network.epoch:
                await self._connect()
            return await self._send(lambda: [self._apply(words) for words in commands])
        except (asyncio.CancelledError, RedisConnectionError):
            # Whoever gives up on an answer drops the connection, lest the answer come to the next one.
            self._connected_to = None
            raise

    async def _connect(self) -> None:
        network = self.network
        if self.requests_cut or self.replies_cut:
            await asyncio.sleep(CONNECT_TIMEOUT_S)
            raise RedisConnectionError("Timeout connecting to server")
        if network.redis.refusing:
            await asyncio.sleep(network.hop_s())
            raise RedisConnectionError("Error 111 connecting to redis: Connect call failed.")
        epoch = network.epoch
        (run_id,) = await self._send(lambda: [network.redis.run_id])
        self._connected_to = epoch
        self._server.seen("primary", run_id, VERSION)

    async def _send(self, apply: Callable[[], list[Any]]) -> list[Any]:
        network, weather = self.network, self.network.weather
        future: asyncio.Future[list[Any]] = network.loop.create_future()
        network.track(future)
        epoch = network.epoch

        def at_server() -> None:
            if self.requests_cut or network.random.random() < weather.request_lost:
                return
            network.arrive(carry_out)

        def carry_out() -> None:
            if epoch == network.epoch:
                network.later(self.reply_delay_s + network.hop_s(), back, apply())

        def back(replies: list[Any]) -> None:
            lost = self.replies_cut or network.random.random() < weather.reply_lost
            if not lost and not future.done():
                future.set_result(replies)

        network.later(self.request_delay_s + network.hop_s(), at_server)
        return await future

    def _apply(self, words: Words) -> Any:
        try:
            return self.network.redis.apply(words)
        except RedisError as error:
            return error


class SimulatedClient:
    """What :class:`~mediaflow.store.single.SingleLink` uses of redis-py's client."""

    def __init__(self, wire: Wire) -> None:
        """Speak over a wire."""
        self._wire = wire

    async def execute_command(self, *words: Any) -> Any:
        """Carry out one command."""
        (reply,) = await self._wire.exchange([words])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ping(self) -> None:
        """Reach the server."""
        await self._wire.exchange([])

    def pipeline(self, *, transaction: bool) -> "SimulatedPipeline":
        """Gather commands."""
        del transaction
        return SimulatedPipeline(self._wire)

    def pubsub(self) -> "SimulatedPubSub":
        """Return a subscription to be."""
        return SimulatedPubSub(self._wire)

    async def aclose(self) -> None:
        """Nothing is open."""


class SimulatedPipeline:
    """Commands that go out together."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._commands: list[Words] = []

    def execute_command(self, *words: Any) -> None:
        """Add one."""
        self._commands.append(words)

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        """Send them."""
        replies = await self._wire.exchange(self._commands)
        for reply in replies:
            if raise_on_error and isinstance(reply, Exception):
                raise reply
        return replies


class SimulatedPubSub:
    """What :mod:`mediaflow.store.bus` uses of redis-py's PubSub: one channel, on a connection of its own."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._network = wire.network
        self._arrived: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._sent_until_s = 0.0
        self.channel = ""

    async def subscribe(self, channel: str) -> None:
        """Ask for a channel; the confirmation comes as a message."""
        await self._wire.exchange([])
        self.channel = channel

        def at_server() -> None:
            if not self._wire.requests_cut:
                self._network.arrive(confirm)

        def confirm() -> None:
            self._network.subscribe(self)
            self.send({"type": "subscribe", "data": 1})

        self._network.later(self._network.hop_s(), at_server)

    async def ping(self) -> None:
        """Ask for a sign of life, which comes as a message."""

        def at_server() -> None:
            if not self._wire.requests_cut:
                self._network.arrive(lambda: self.send({"type": "pong", "data": b""}))

        self._network.later(self._network.hop_s(), at_server)

    async def get_message(self, *, timeout: float) -> dict[str, Any] | None:  # noqa: ASYNC109 - as redis-py names it
        """Return the next message, None if there is none in time."""
        try:
            async with asyncio.timeout(timeout):
                message = await self._arrived.get()
        except TimeoutError:
            return None
        if message is None:
            raise RedisConnectionError("Connection closed by server.")
        return message

    async def aclose(self) -> None:
        """Want no more messages."""
        self._network.unsubscribe(self)

    def send(self, message: dict[str, Any]) -> None:
        """Put a message on its way; those of one connection do not overtake each other."""
        now_s = self._network.loop.time()
        self._sent_until_s = max(self._sent_until_s, now_s + self._network.hop_s())
        self._network.later(self._sent_until_s - now_s, self._deliver, message)

    def break_off(self) -> None:
        """End the connection."""
        self._arrived.put_nowait(None)

    def _deliver(self, message: dict[str, Any]) -> None:
        if not self._wire.replies_cut:
            self._arrived.put_nowait(message)
