"""Redis in virtual time: the real scripts, and what can befall a server.

It answers at once and in one step; what a request suffers on its way is :mod:`mediaflow.testing.wire`'s. After each
command whoever watches is told, so that a history can hold what Redis held.

Not simulated: memory that runs out, ``WAIT``, Redis Cluster. Real servers stand for these in ``tests/``.
"""

import copy
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from unittest import mock

import fakeredis
from redis.exceptions import NoScriptError, ResponseError

from mediaflow.testing.keyspace import Keyspace, Refused
from mediaflow.testing.lua import Interpreter

EPOCH_S = 1_767_225_600.0
"""Wall time at the loop's time zero."""

Message = tuple[str, bytes]


class Engine(Protocol):
    """What carries out commands."""

    def execute(self, words: Sequence[Any]) -> Any:
        """Carry out one command; raises redis-py's exceptions for what is refused."""
        ...

    def messages(self) -> list[Message]:
        """Return what was published since it was last asked."""
        ...

    def all_keys(self) -> list[bytes]:
        """Return the keys that there are."""
        ...

    def forget_scripts(self) -> None:
        """Know no script any more."""
        ...

    def snapshot(self) -> Any:
        """Take down all that it holds."""
        ...

    def restore(self, contents: Any) -> None:
        """Forget all, scripts too, and hold what a snapshot took down; None for nothing."""
        ...


class SubsetEngine:
    """Our own subset of Redis: fast."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        """Begin with nothing."""
        self._keyspace = Keyspace(wall_s)
        self._interpreter = Interpreter(self._keyspace)

    def execute(self, words: Sequence[Any]) -> Any:
        """Carry out one command."""
        command, *rest = (word if isinstance(word, bytes) else str(word).encode() for word in words)
        try:
            if command == b"EVAL":
                return self._run(self._interpreter.load(rest[0]), rest)
            if command == b"EVALSHA":
                if not self._interpreter.knows(rest[0]):
                    raise NoScriptError("No matching script. Please use EVAL.")
                return self._run(rest[0], rest)
            return self._keyspace.call(command, *rest)
        except Refused as error:
            raise ResponseError(str(error)) from error

    def _run(self, digest: bytes, rest: Sequence[bytes]) -> Any:
        keys = 2 + int(rest[1])
        return self._interpreter.run(digest, rest[2:keys], rest[keys:])

    def messages(self) -> list[Message]:
        """Return what was published since it was last asked."""
        found, self._keyspace.published = self._keyspace.published, []
        return [(channel.decode(), message) for channel, message in found]

    def all_keys(self) -> list[bytes]:
        """Return the keys that there are."""
        return self._keyspace.all_keys()

    def forget_scripts(self) -> None:
        """Know no script any more."""
        self._interpreter.forget()

    def snapshot(self) -> Any:
        """Take down all that it holds."""
        return copy.deepcopy((self._keyspace.values, self._keyspace.expiries))

    def restore(self, contents: Any) -> None:
        """Hold what a snapshot took down."""
        self._keyspace.values, self._keyspace.expiries = copy.deepcopy(contents) if contents else ({}, {})
        self._interpreter.forget()


class FakeredisEngine:
    """fakeredis: the same, many times slower; it shows that the subset is not wrong."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        """Begin with nothing."""
        self._wall_s = wall_s
        self._client: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(6, 2)), protocol=2)
        self._client.response_callbacks.clear()
        self._listener: Any = self._client.pubsub()
        self._listener.psubscribe("*")
        self._listener.get_message()

    def execute(self, words: Sequence[Any]) -> Any:
        """Carry out one command."""
        wall_s = self._wall_s()
        with mock.patch.object(time, "time", return_value=wall_s):
            reply = self._client.execute_command(*words)
        return sorted(reply) if words[0] == "SMEMBERS" else reply

    def messages(self) -> list[Message]:
        """Return what was published since it was last asked."""
        found: list[Message] = []
        while message := self._listener.get_message():
            found.append((message["channel"].decode(), message["data"]))
        return found

    def all_keys(self) -> list[bytes]:
        """Return the keys that there are."""
        return sorted(self.execute(("KEYS", "*")))

    def forget_scripts(self) -> None:
        """Know no script any more."""
        self.execute(("SCRIPT", "FLUSH"))

    def snapshot(self) -> Any:
        """Take down each key's content and its time to live in ms."""
        return {
            key: (self.execute(("DUMP", key)), max(0, self.execute(("PTTL", key)))) for key in self.all_keys()
        }

    def restore(self, contents: Any) -> None:
        """Hold what a snapshot took down."""
        self.execute(("FLUSHALL",))
        self.execute(("SCRIPT", "FLUSH"))
        held: dict[bytes, tuple[bytes, int]] = contents or {}
        for key, (dumped, ttl_ms) in held.items():
            self.execute(("RESTORE", key, ttl_ms, dumped))


def read_hash(engine: Engine, key: str) -> dict[str, str]:
    """Return a hash, unseen by whoever watches the server."""
    flat: list[bytes] = engine.execute(("HGETALL", key))
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


ENGINES: dict[str, Callable[[Callable[[], float]], Engine]] = {
    "subset": SubsetEngine,
    "fakeredis": FakeredisEngine,
}


class SimulatedRedis:
    """One server. Its clock is the loop's, plus what it has jumped by.

    Attributes:
        run_id: Changes with each restart.
        frozen: It takes requests and answers none, as under SIGSTOP; they are applied when it thaws.
        refusing: Nobody listens: it is being restarted.
        on_applied: Called after each command with its words.
        on_published: Called with each message that was published.
    """

    def __init__(self, loop_time: Callable[[], float], rng: random.Random, engine: str = "subset") -> None:
        """Begin with nothing in it."""
        self._loop_time = loop_time
        self._random = rng
        self._jumped_s = 0.0
        self.engine = ENGINES[engine](self.wall_s)
        self.run_id = self._new_run_id()
        self.frozen = False
        self.refusing = False
        self.on_applied: Callable[[Sequence[Any]], None] = lambda _: None
        self.on_published: Callable[[Message], None] = lambda _: None

    def wall_s(self) -> float:
        """Return what ``TIME`` says, in seconds."""
        return EPOCH_S + self._loop_time() + self._jumped_s

    def apply(self, words: Sequence[Any]) -> Any:
        """Carry out one command, and tell those who watch.

        Raises:
            redis.exceptions.RedisError: What the server answers instead of a reply.
        """
        reply = self.engine.execute(words)
        self.on_applied(words)
        for message in self.engine.messages():
            self.on_published(message)
        return reply

    def read(self, *words: Any) -> Any:
        """Carry out one command unseen."""
        return self.engine.execute(words)

    def jump(self, by_s: float) -> None:
        """Set the clock of its host forward, or back."""
        self._jumped_s += by_s

    def forget_scripts(self) -> None:
        """Have everybody send whole scripts again, as after SCRIPT FLUSH."""
        self.engine.forget_scripts()

    def restart(self, contents: Any = None) -> None:
        """Come back as another process: with nothing, or with what a snapshot of its engine took down."""
        self.run_id = self._new_run_id()
        self.engine.restore(contents)

    def _new_run_id(self) -> str:
        return f"{self._random.getrandbits(160):040x}"
