"""Instances in this process on a real Redis, each of which reaches it through a proxy of its own."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import redis as redis_client

from harness.proxy import Proxy
from harness.redis import RedisServer
from harness.waiting import eventually
from mediaflow.api.messages import CallAnswer
from mediaflow.runtime.instance import Instance
from mediaflow.runtime.placing import Placement
from mediaflow.settings import Settings
from mediaflow.store import CallRecord, Event, SessionRecord, Store, open_store
from mediaflow.watchdog import Watchdog

TTL_S = 3.0
TICK_S = 0.02
BEGUN_WITHIN_S = 10.0


@dataclass
class Run:
    """One start of the coroutine, as it saw itself."""

    session: Any
    call_id: str
    session_id: str
    instance_id: str
    attempt: int
    resume: Any
    began_s: float
    ticks: int = 0
    written: int = 0
    over: bool = False
    end: str | None = None


class Witness:
    """The coroutines that the members of a test run, and what they saw."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def of(self, call_id: str = "", *, session_id: str = "", instance_id: str = "") -> list[Run]:
        return [
            run
            for run in self.runs
            if call_id in ("", run.call_id)
            and session_id in ("", run.session_id)
            and instance_id in ("", run.instance_id)
        ]

    def going(self, call_id: str = "") -> list[Run]:
        """Return those that have not ended."""
        return [run for run in self.of(call_id) if not run.over]

    async def begun(self, call_id: str, *, instance_id: str = "", ticks: int = 3) -> Run:
        """Wait until the newest start of a call's coroutine has done a little, and return it."""

        async def look() -> Run | None:
            runs = self.of(call_id, instance_id=instance_id)
            return runs[-1] if runs and runs[-1].ticks >= ticks else None

        return await eventually(
            look, BEGUN_WITHIN_S, about=f"{call_id} runs {instance_id and 'at ' + instance_id}"
        )

    async def tick(self, session: Any) -> None:
        """Work that asks nothing of the store, and so goes on when it is away."""
        with self._seen(session) as run:
            while True:
                run.ticks += 1
                await asyncio.sleep(TICK_S)

    async def count(self, session: Any) -> None:
        """Count on from the last checkpoint, one checkpoint a number."""
        with self._seen(session) as run:
            run.written = (session.resume or {"count": 0})["count"]
            while True:
                await session.checkpoint({"count": run.written + 1, "by": session.instance_id})
                run.written += 1
                run.ticks += 1
                await asyncio.sleep(TICK_S)

    async def hold(self, session: Any) -> None:
        """Leave one checkpoint and one detail, then wait for the end of the call."""
        with self._seen(session) as run:
            await session.checkpoint({"left by": session.call_id})
            await session.publish(shown=session.call_id)
            run.ticks = 1
            await asyncio.Event().wait()

    @contextlib.contextmanager
    def _seen(self, session: Any):
        run = Run(
            session,
            session.call_id,
            session.id,
            session.instance_id,
            session.attempt,
            session.resume,
            time.monotonic(),
        )
        self.runs.append(run)
        try:
            yield run
        finally:
            run.over = True
            run.end = session.end_reason


@dataclass
class Member:
    """An instance with the store and the proxy that are its own."""

    instance: Instance
    store: Store
    proxy: Proxy

    @property
    def id(self) -> str:
        return self.instance.instance_id

    async def start(self, call_id: str, metadata: bytes = b"{}", key: str | None = None) -> CallAnswer:
        return await self.instance.place(
            Placement(call_id=call_id, metadata=metadata, body_digest="digest", idempotency_key=key)
        )


@dataclass
class Sightings:
    """What was seen of a call, one record a look."""

    seen: list[CallRecord | None] = field(default_factory=list)

    def without(self, is_alive: Callable[[SessionRecord], bool]) -> list[CallRecord | None]:
        """Return the looks at which no session was alive."""
        assert self.seen, "nobody looked"
        return [call for call in self.seen if call is None or not any(map(is_alive, call.sessions))]


class ProxiedCluster:
    """Members, a watchdog and a store that nothing stands in the way of, in a namespace of their own."""

    def __init__(self, server: RedisServer, **settings: Any) -> None:
        self._server = server
        self._settings = {
            "namespace": f"test-{uuid.uuid4().hex[:12]}",
            "lease_ttl": TTL_S,
            "accept_ttl": 0.5,
            "retention": 60.0,
            "partitions": 4,
            "slots": 10,
        } | settings
        self._stack = AsyncExitStack()
        self._redis = redis_client.Redis(port=server.port)
        self.store: Store

    def settings(self, **more: Any) -> Settings:
        return Settings(**({"redis_url": self._server.url} | self._settings | more))

    async def __aenter__(self) -> Self:
        self._stack.callback(self._redis.close)
        self.store = await self.open_store()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def open_store(self, url: str = "", **settings: Any) -> Store:
        store = await open_store(self.settings(**({"redis_url": url} if url else {}), **settings))
        self._stack.push_async_callback(store.close)
        return store

    async def proxy(self, port: int = 0) -> Proxy:
        """Put a proxy in front of a port; of Redis unless another is given."""
        return await self._stack.enter_async_context(Proxy(port or self._server.port))

    async def member(self, name: str, handler: Any, **settings: Any) -> Member:
        """Start an instance and wait until it is registered. It ends without a farewell: it may be cut off."""
        proxy = await self.proxy()
        of_its_own = self.settings(instance_id=name, redis_url=proxy.url, **settings)
        store = await open_store(of_its_own)
        self._stack.push_async_callback(store.close)
        instance = Instance(store, handler, of_its_own)
        self._stack.push_async_callback(instance.abort)
        await instance.__aenter__()
        async with asyncio.timeout(10):
            await instance.wait_ready()
        return Member(instance, store, proxy)

    async def watchdog(self) -> Watchdog:
        """Start a watchdog that nothing stands in the way of."""
        watchdog = Watchdog(await self.open_store(), self.settings())
        await self._stack.enter_async_context(meanwhile(watchdog.run()))
        return watchdog

    async def call(self, call_id: str) -> CallRecord | None:
        return await self.store.describe(call_id)

    async def active(self, call_id: str) -> list[SessionRecord]:
        call = await self.call(call_id)
        return [one for one in call.sessions if one.state == "active"] if call else []

    async def events(self, call_id: str) -> list[Event]:
        return await self.store.history(call_id)

    def checkpoint(self, session_id: str) -> tuple[int, bytes]:
        """Return number and value of a session's checkpoint, as Redis has them."""
        number, value = self._field(session_id, "checkpoint_number", "checkpoint")
        return int(number or 0), value or b""

    def metadata(self, session_id: str) -> bytes:
        """Return a session's metadata, as Redis has them."""
        return self._field(session_id, "metadata")[0] or b""

    def _field(self, session_id: str, *names: str) -> list[bytes | None]:
        keys = self._redis.keys(f"{self._settings['namespace']}:*:session:{session_id}")
        return self._redis.hmget(keys[0], names) if keys else [None] * len(names)

    # -- what Redis can lose ------------------------------------------------------------------

    def _keys(self) -> list[bytes]:
        return list(self._redis.scan_iter(f"{self._settings['namespace']}:*", count=1000))

    def forget(self) -> None:
        """Have Redis lose all that it knows of this namespace."""
        if keys := self._keys():
            self._redis.delete(*keys)

    def snapshot(self) -> dict[bytes, tuple[bytes, int]]:
        """Return what Redis knows of this namespace."""
        return {key: (self._redis.dump(key), max(0, self._redis.pttl(key))) for key in self._keys()}

    def roll_back(self, snapshot: dict[bytes, tuple[bytes, int]]) -> None:
        """Have Redis know what it knew then, and nothing else, from one moment to the next."""
        pipeline = self._redis.pipeline(transaction=True)
        for key in self._keys():
            pipeline.delete(key)
        for key, (value, ttl_ms) in snapshot.items():
            pipeline.restore(key, ttl_ms, value)
        pipeline.execute()

    def jump_clock(self, seconds: float) -> None:
        """Have the host's clock of Redis jump forward (or back), as far as lease time can see it.

        A script compares TIME with the last TIME that a partition has seen: the one moves here, not the other.
        """
        for key in self._redis.scan_iter(f"{self._settings['namespace']}:*:clock", count=1000):
            self._redis.hincrby(key, "wall_ms", -round(seconds * 1000))

    @asynccontextmanager
    async def watching(self, call_id: str) -> AsyncIterator[Sightings]:
        """Look at a call all the while."""
        sightings = Sightings()

        async def look() -> None:
            while True:
                sightings.seen.append(await self.store.describe(call_id))
                await asyncio.sleep(0.005)

        async with meanwhile(look()):
            yield sightings


@asynccontextmanager
async def meanwhile(coroutine: Any) -> AsyncIterator[None]:
    """Run an endless coroutine meanwhile; should it have ended, its failure is the test's."""
    task = asyncio.ensure_future(coroutine)
    try:
        yield
    finally:
        ended = task.done()
        task.cancel()
        await asyncio.wait([task])
        if ended:
            task.result()
