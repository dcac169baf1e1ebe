"""One way to run scripts and commands, whatever the topology: single server, Sentinel, Cluster, in process.

redis-py's own retries are off, and no ``socket_timeout`` is set: a lost reply would run a script twice
unseen, and on Python 3.11 its time-outs swallow cancellations. Deadlines are the caller's.

A reply of None, an exception in a reply, and redis-py's own exceptions never leave this room:
see :mod:`mediaflow.store.ask`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import redis.asyncio as aioredis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from mediaflow.store.scripts import Script


class Call(NamedTuple):
    """A script with its keys and arguments."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes | int]


class Primary(NamedTuple):
    """A server to be asked by itself; ``name`` is its address, empty where there is only one."""

    name: str
    command: Callable[..., Awaitable[Any]]


class Server:
    """What is known of the server behind a link; each new connection tells it anew."""

    def __init__(self) -> None:
        """Start out knowing nothing."""
        self.generation = 0
        self.version: tuple[int, ...] | None = None
        self._run_ids: dict[str, str] = {}

    def seen(self, node: str, run_id: str, version: str) -> None:
        """Note what a server said of itself; another ``run_id`` than before begins a new generation."""
        self.version = tuple(int(part) for part in version.split(".")[:2])
        if self._run_ids.get(node) != run_id:
            self._run_ids[node] = run_id
            self.generation += 1

    @property
    def knows_flags(self) -> bool:
        """Whether scripts may start with a ``#!lua`` line."""
        return self.version is not None and self.version >= (7,)

    async def greet(self, connection: Any, node: str) -> None:
        """Finish the handshake of a new connection, and ask the server who it is before anything else."""
        try:
            await connection.on_connect()
            await connection.send_command("INFO", "server")
            reply = await connection.read_response()
        except BaseException:
            # Given up half-way, the connection would hand the late reply to whoever uses it next.
            await connection.disconnect(nowait=True)
            raise
        text = reply.decode() if isinstance(reply, bytes) else str(reply)
        found = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        self.seen(node, found.get("run_id", ""), found.get("redis_version", "0.0"))


class Link(Protocol):
    """A connection to Redis; methods raise redis-py's exceptions and are bounded by the caller."""

    server: Server

    async def run(self, call: Call, *, replicas: int = 0, replicas_timeout_ms: int = 0) -> tuple[Any, int]:
        """Run one script; with ``replicas``, also tell how many hold what it wrote."""
        ...

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run several scripts in one go; a failed one gives its exception in its place."""
        ...

    async def commands(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run reading commands in one go; the second word of each is its key."""
        ...

    async def ping(self) -> None:
        """Reach the server."""
        ...

    def primaries(self) -> list["Primary"]:
        """Return the servers that hold the data, once they were reached."""
        ...

    def pubsub(self) -> Any:
        """Return a redis-py PubSub on a connection of its own."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class SingleLink:
    """One server at a time: plain Redis, the primary that Sentinel names, or fakeredis."""

    def __init__(self, client: aioredis.Redis, server: Server) -> None:
        """Wrap a client whose connections greet ``server``."""
        # redis-py types its commands for both of its clients at once, which says nothing about either.
        self._client: Any = client
        self.server = server

    async def run(self, call: Call, *, replicas: int = 0, replicas_timeout_ms: int = 0) -> tuple[Any, int]:
        """Run one script; EVALSHA first, the whole text where the server does not have it."""
        if not replicas:
            return await _evaluate(self._client, call, flags=self.server.knows_flags), 0
        # WAIT counts for its own connection only, so it has to follow in the same pipeline.
        for command in ("EVALSHA", "EVAL"):
            pipeline = self._client.pipeline(transaction=False)
            pipeline.execute_command(*_words(command, call, flags=self.server.knows_flags))
            pipeline.execute_command("WAIT", replicas, replicas_timeout_ms)
            reply, acknowledged = await pipeline.execute(raise_on_error=False)
            if not isinstance(reply, NoScriptError):
                break
        _raise(reply)
        _raise(acknowledged)
        return reply, int(acknowledged)

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run several scripts in one pipeline."""
        flags = self.server.knows_flags
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*_words("EVALSHA", call, flags=flags))
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        for index, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                try:
                    replies[index] = await _evaluate(self._client, calls[index], flags=flags)
                except RedisError as error:
                    replies[index] = error
        return replies

    async def commands(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run reading commands in one pipeline."""
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute()

    async def ping(self) -> None:
        """Reach the server."""
        await self._client.ping()

    def primaries(self) -> list["Primary"]:
        """Return the one."""
        return [Primary("", self._client.execute_command)]

    def pubsub(self) -> Any:
        """Return a redis-py PubSub."""
        return self._client.pubsub()

    async def close(self) -> None:
        """Close the pool."""
        await self._client.aclose()


class ClusterLink:
    """A Redis Cluster: each script goes to the node that serves its keys' hash slot."""

    def __init__(self, client: RedisCluster, server: Server, node_settings: dict[str, Any]) -> None:
        """Wrap a cluster client; ``node_settings`` open a connection for messages to any one node."""
        self._client: Any = client
        self.server = server
        self._node_settings = node_settings
        self._listener: Any = None

    async def run(self, call: Call, *, replicas: int = 0, replicas_timeout_ms: int = 0) -> tuple[Any, int]:
        """Run one script, following the cluster's redirections."""
        reply = await _evaluate(self._client, call, flags=self.server.knows_flags)
        if not replicas:
            return reply, 0
        # WAIT belongs to the connection that wrote. redis-py ties none to a cluster's command, so the same
        # (repeatable) script is asked again together with its WAIT on one connection of the node.
        node = self._client.get_node_from_key(call.keys[0])
        if node is None:
            return reply, 0
        async with aioredis.Redis(host=node.host, port=int(node.port), **self._node_settings) as direct:
            return await SingleLink(direct, self.server).run(
                call, replicas=replicas, replicas_timeout_ms=replicas_timeout_ms
            )

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run several scripts side by side."""

        async def one(call: Call) -> Any:
            try:
                return await _evaluate(self._client, call, flags=self.server.knows_flags)
            except RedisError as error:
                return error

        return list(await asyncio.gather(*(one(call) for call in calls)))

    async def commands(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run reading commands side by side."""
        return list(await asyncio.gather(*(self._client.execute_command(*c) for c in commands)))

    async def ping(self) -> None:
        """Reach the cluster, and ask each primary who it is: redis-py offers no hook for new connections here."""
        await self._client.initialize()
        for node in self._client.get_primaries():
            found = await self._client.info("server", target_nodes=node)
            self.server.seen(node.name, found["run_id"], found["redis_version"])

    def primaries(self) -> list["Primary"]:
        """Return them by address."""
        return [
            Primary(node.name, partial(self._client.execute_command, target_nodes=node))
            for node in self._client.get_primaries()
        ]

    def pubsub(self) -> Any:
        """Return a PubSub on any one node: PUBLISH reaches all nodes of a cluster."""
        if not self._client.get_nodes():
            raise RedisClusterException("no node of the cluster has been reached yet")
        node = self._client.get_random_node()
        self._listener = aioredis.Redis(host=node.host, port=int(node.port), **self._node_settings)
        return self._listener.pubsub()

    async def close(self) -> None:
        """Close all connections."""
        if self._listener is not None:
            await self._listener.aclose()
        await self._client.aclose()


_servers_in_process: dict[str, Any] = {}


def link_in_process(name: str) -> SingleLink:
    """Return a link to the store of this process that has this name; it lives as long as the process."""
    import fakeredis  # here, because programs that have a Redis need not load it

    fake = _servers_in_process.setdefault(name, fakeredis.FakeServer())
    server = Server()
    server.seen("memory", name, "6.2")
    return SingleLink(
        cast("aioredis.Redis", fakeredis.FakeAsyncRedis(server=fake, socket_timeout=None)), server
    )


def _words(command: str, call: Call, *, flags: bool) -> tuple[Any, ...]:
    code = call.script.sha(flags=flags) if command == "EVALSHA" else call.script.text(flags=flags)
    return (command, code, len(call.keys), *call.keys, *call.args)


async def _evaluate(client: Any, call: Call, *, flags: bool) -> Any:
    try:
        return await client.execute_command(*_words("EVALSHA", call, flags=flags))
    except NoScriptError:
        return await client.execute_command(*_words("EVAL", call, flags=flags))


def _raise(reply: Any) -> None:
    if isinstance(reply, Exception):
        raise reply
