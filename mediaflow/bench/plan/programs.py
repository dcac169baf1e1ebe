"""The private programs that are measured, and what each of them has spent so far."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis

from mediaflow.processes.child import Child, End
from mediaflow.processes.environment import environment
from mediaflow.settings import Settings
from mediaflow.store.embedded import (
    PREFERRED,
    EmbeddedStore,
    EmbeddedStoreError,
    ServerBinary,
    describe_search,
    find_server,
)

NAMES = ("worker", "loadbalancer", "watchdog", "concurrency")
STOP_S = 3.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Unmeasurable(Exception):
    """Costs cannot be measured here; the message says why and what to do."""


class Spent(NamedTuple):
    """What was spent up to a moment: processor time of each process in µs, and what Redis counted."""

    at_s: float
    cpu_us: Mapping[str, float]
    scripts: int
    wire_bytes: int


class Programs:
    """A Redis and one of each program, which know nothing of other Redis.

    Attributes:
        settings: With which they run.
        redis: A connection to their Redis.
    """

    def __init__(self, settings: Settings, redis: Any, redis_pid: int) -> None:
        self.settings = settings
        self.redis = redis
        self._redis_pid = redis_pid
        self._heard = _Ear()
        self._children = {
            name: Child(
                name,
                _command(name),
                self._heard,
                environment=environment(settings, os.environ, {"host", "port"}),
            )
            for name in NAMES
        }

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start all, and return when they serve.

        Raises:
            Unmeasurable: One of them does not.
        """
        for child in self._children.values():
            tasks.create_task(child.keep(), name=child.name)
        for child in self._children.values():
            if not await child.settled():
                raise Unmeasurable(f"{child.name} did not start: {self._heard.last}")

    async def stop(self) -> None:
        """Stop all but Redis."""
        for child in self._children.values():
            await child.stop(STOP_S)

    def url(self, name: str) -> str:
        """Return where a program serves."""
        return self._children[name].url

    async def spent(self) -> Spent:
        """Return what was spent so far."""
        commands = await self.redis.info("commandstats")
        stats = await self.redis.info("stats")
        pids = {"redis": self._redis_pid, **{name: child.pid for name, child in self._children.items()}}
        scripts = sum(
            found["calls"] for name, found in commands.items() if name in ("cmdstat_evalsha", "cmdstat_eval")
        )
        return Spent(
            at_s=time.monotonic(),
            cpu_us={name: _cpu_us(pid) for name, pid in pids.items() if pid},
            scripts=scripts,
            wire_bytes=stats["total_net_input_bytes"] + stats["total_net_output_bytes"],
        )

    def resident_bytes(self, name: str) -> int:
        """Return how much memory a program has."""
        return int(Path(f"/proc/{self._children[name].pid}/statm").read_text().split()[1]) * _PAGE_BYTES


class _Ear:
    """Hears what children say, and keeps the last for who has to explain why they do not serve."""

    def __init__(self) -> None:
        self.last = "it said nothing"

    def on_ready(self, child: Child) -> None:
        """Nothing: it is waited for."""

    def on_end(self, child: Child, end: End) -> None:  # noqa: ARG002
        """Keep why it ended."""
        self.last = end.last_words or f"exit status {end.status}"

    def on_line(self, child: Child, line: str) -> None:  # noqa: ARG002
        """Keep what it complained of."""
        self.last = line


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", f"mediaflow.{name}", "--host", "127.0.0.1", "--port", "0"]


def _cpu_us(pid: int) -> float:
    """Return the processor time of another process: the clock that Linux's clock_getcpuclockid(3) names."""
    return time.clock_gettime_ns(~pid << 3 | 2) / 1000


def server() -> ServerBinary:
    """Return the server to measure with.

    Raises:
        Unmeasurable: There is none that behaves as one in production, or this system has no such clocks.
    """
    if sys.platform != "linux":
        raise Unmeasurable("costs are measured on Linux only: give --costs FILE with those of such a machine")
    found = find_server()
    if found is None or found.version < PREFERRED:
        least = ".".join(map(str, PREFERRED))
        there = describe_search() if found is None else f"{found} is too old"
        raise Unmeasurable(
            f"costs are measured against a private redis-server {least} or later, and {there}: "
            "install one, or give --costs FILE"
        )
    return found


@asynccontextmanager
async def programs(**settings: Any) -> AsyncGenerator[Programs]:
    """Give programs that serve, on a Redis of their own; none is left behind.

    Args:
        settings: Of all programs, by name.

    Raises:
        Unmeasurable: They cannot be run.
    """
    try:
        async with EmbeddedStore(server()) as store:
            client: Any = Redis  # half of its types are unknown
            redis = client.from_url(store.url, decode_responses=True)
            made = Programs(Settings(redis_url=store.url, **settings), redis, store.pid)
            async with asyncio.TaskGroup() as tasks:
                try:
                    await made.start(tasks)
                    yield made
                finally:
                    await asyncio.shield(made.stop())
                    await redis.aclose()
    except EmbeddedStoreError as error:
        raise Unmeasurable(str(error)) from None
    except BaseExceptionGroup as group:
        # Children raise nothing of their own: what is in it came from who measures.
        raise group.exceptions[0] from None
