"""A link to one server at a time: plain Redis, the primary that Sentinel names, or fakeredis in this process.

:class:`SingleLink` does all by a client of redis-py, whatever stands in its place: fakeredis, or the simulator's wire.
:class:`PipedLink` is for real servers: its requests share one connection, see :mod:`mediaflow.store.pipe`.
"""

import asyncio
from collections.abc import Hashable, Sequence
from typing import Any, cast

import redis.asyncio as aioredis
from redis.exceptions import NoScriptError, RedisError

from mediaflow.store.ask import TRY_TIMEOUT_S
from mediaflow.store.batching import Gatherer
from mediaflow.store.link import Call, KeptCall, Primary, Server, evaluate, words
from mediaflow.store.pipe import Pipe, Words, pack

SCRIPTS_IN_A_PIPELINE = 100


class SingleLink:
    """One server at a time: plain Redis, the primary that Sentinel names, or fakeredis."""

    def __init__(self, client: aioredis.Redis, server: Server) -> None:
        """Wrap a client whose connections greet ``server``."""
        # redis-py types its commands for both of its clients at once, which says nothing about either.
        self._client: Any = client
        self.server = server
        self._gatherer = Gatherer[Call, Any](self._flush, largest=SCRIPTS_IN_A_PIPELINE)

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Run what is asked for in one turn of the event loop in one pipeline: a tenth of the work of each alone."""
        async with asyncio.timeout(timeout_s):
            return await self._gatherer.submit(call, timeout_s)

    async def _flush(self, calls: Sequence[Call], _timeout_s: float) -> Sequence[Any]:
        return await self.run_many(calls)

    def lane(self, call: Call) -> Hashable:  # noqa: ARG002 - see Link
        """Return the same for all: there is one server."""
        return None

    async def run(
        self, call: Call, *, replicas: int = 0, replicas_timeout_ms: int = 0, asking: bool = False
    ) -> tuple[Any, int]:
        """Run one script; EVALSHA first, the whole text where the server does not have it.

        ``asking`` has a server of a cluster look at a hash slot that is still on its way there.
        """
        if not replicas and not asking:
            return await evaluate(self._client, call, flags=self.server.knows_flags), 0
        reply: Any = None
        acknowledged: Any = 0
        for command in ("EVALSHA", "EVAL"):
            pipeline = self._client.pipeline(transaction=False)
            if asking:
                pipeline.execute_command("ASKING")
            pipeline.execute_command(*words(command, call, flags=self.server.knows_flags))
            if replicas:
                # It counts for its own connection only, so it has to follow in the same pipeline.
                pipeline.execute_command("WAIT", replicas, replicas_timeout_ms)
            replies = await pipeline.execute(raise_on_error=False)
            reply, acknowledged = replies[asking], replies[-1] if replicas else 0
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
            pipeline.execute_command(*words("EVALSHA", call, flags=flags))
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        for index, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                try:
                    replies[index] = await evaluate(self._client, calls[index], flags=flags)
                except RedisError as error:
                    replies[index] = error
        return replies

    async def commands(self, commands: Sequence[tuple[Any, ...]], *, asking: bool = False) -> list[Any]:
        """Run reading commands in one pipeline; see :meth:`run` for ``asking``."""
        pipeline = self._client.pipeline(transaction=False)
        for command in _put_asking(commands) if asking else commands:
            pipeline.execute_command(*command)
        replies = await pipeline.execute()
        return replies[1::2] if asking else replies

    async def ping(self) -> None:
        """Reach the server."""
        await self._client.ping()

    def primaries(self) -> list[Primary]:
        """Return the one."""
        return [Primary("", self._client.execute_command)]

    def pubsub(self) -> Any:
        """Return a redis-py PubSub."""
        return self._client.pubsub()

    async def close(self) -> None:
        """Close the pool."""
        await self._client.aclose()


class PipedLink(SingleLink):
    """The same, with all on one connection but what would block it: WAIT, and messages."""

    def __init__(self, client: aioredis.Redis, server: Server) -> None:
        """Wrap a client whose connections greet ``server``; the one that is shared is opened like those of its pool."""
        super().__init__(client, server)
        self._pipe = Pipe(self._connect, TRY_TIMEOUT_S)
        self._connection: Any = None

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Run one script; what is asked for in one turn of the event loop goes out in one write."""
        flags, loop = self.server.knows_flags, asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        (reply,) = await self._pipe.ask((words("EVALSHA", call, flags=flags),), timeout_s)
        if isinstance(reply, NoScriptError):
            (reply,) = await self._pipe.ask((words("EVAL", call, flags=flags),), until_s - loop.time())
        _raise(reply)
        return reply

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run several scripts in one go."""
        flags = self.server.knows_flags
        replies = await self._pipe.ask([_command(call, flags=flags) for call in calls], TRY_TIMEOUT_S)
        unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            texts = [words("EVAL", calls[index], flags=flags) for index in unknown]
            for index, reply in zip(unknown, await self._pipe.ask(texts, TRY_TIMEOUT_S), strict=True):
                replies[index] = reply
        return replies

    async def commands(self, commands: Sequence[tuple[Any, ...]], *, asking: bool = False) -> list[Any]:
        """Run reading commands in one go; what they answer is as it came, not as redis-py would put it."""
        replies = await self._pipe.ask(_put_asking(commands) if asking else commands, TRY_TIMEOUT_S)
        for reply in replies:
            _raise(reply)
        return replies[1::2] if asking else replies

    async def ping(self) -> None:
        """Reach the server."""
        await self.commands([("PING",)])

    async def close(self) -> None:
        """Close all connections."""
        self._pipe.close()
        await super().close()

    async def _connect(self) -> Any:
        # One for all tries: to load the certificates for TLS anew would take longer than a try may.
        self._connection = self._connection or self._client.connection_pool.make_connection()
        await self._connection.connect()
        return self._connection


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


def _command(call: Call, *, flags: bool) -> Words | bytes:
    if not isinstance(call, KeptCall):
        return words("EVALSHA", call, flags=flags)
    packed = call.packed.get(flags)
    if packed is None:
        packed = call.packed[flags] = pack(words("EVALSHA", call, flags=flags))
    return packed


def _put_asking(commands: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [word for command in commands for word in (("ASKING",), command)]


def _raise(reply: Any) -> None:
    if isinstance(reply, Exception):
        raise reply
