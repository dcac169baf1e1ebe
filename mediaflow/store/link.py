"""One way to run scripts and commands, whatever the topology: what a link promises, and what it knows of its server.

:mod:`mediaflow.store.single` and :mod:`mediaflow.store.cluster` are the two there are.

redis-py's own retries are off, and no ``socket_timeout`` is set: a lost reply would run a script twice
unseen, and on Python 3.11 its time-outs swallow cancellations. Deadlines are the caller's.

A reply of None, an exception in a reply, and redis-py's own exceptions never leave this room:
see :mod:`mediaflow.store.ask`.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from redis.exceptions import NoScriptError

from mediaflow.store.scripts import Script


class Call(NamedTuple):
    """A script with its keys and arguments."""

    script: Script
    keys: Sequence[str]
    args: Sequence[str | bytes | int]


class KeptCall(Call):
    """A call that is asked for again and again.

    Attributes:
        packed: How it goes over the wire, once it did; for servers that know script flags, and for those that do not.
    """

    @cached_property
    def packed(self) -> dict[bool, bytes]:
        """See above."""
        return {}


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

    def forget(self, node: str) -> None:
        """Drop a server that has no say any more: if it is seen again, that begins a new generation."""
        self._run_ids.pop(node, None)

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

    def lane(self, call: Call) -> Hashable:
        """Return what is the same for scripts that the same server answers, by what is known now."""
        ...

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Run one script, together with others that are asked for at this moment.

        Unlike the other methods it has a bound of its own: it raises TimeoutError after ``timeout_s``, or redis-py's.
        """
        ...

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


def words(command: str, call: Call, *, flags: bool) -> tuple[Any, ...]:
    """Return a script call as the words of a command: ``EVALSHA``, or ``EVAL`` with the whole text."""
    code = call.script.sha(flags=flags) if command == "EVALSHA" else call.script.text(flags=flags)
    return (command, code, len(call.keys), *call.keys, *call.args)


async def evaluate(client: Any, call: Call, *, flags: bool) -> Any:
    """Run a script over a client of redis-py, with its text if the server does not have it."""
    try:
        return await client.execute_command(*words("EVALSHA", call, flags=flags))
    except NoScriptError:
        return await client.execute_command(*words("EVAL", call, flags=flags))
