"""Where contestants are measured: a private Redis, a directory, processes, and how much there is time for."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from redis.asyncio import Redis

from mediaflow.bench import program
from mediaflow.bench.cluster import Cluster, Clusters
from mediaflow.bench.program import Program
from mediaflow.store.embedded import PREFERRED, EmbeddedStore, ServerBinary, find_server

_T = TypeVar("_T", int, float)


class NoServerError(Exception):
    """There is no Redis to measure with."""


class Unfit(Exception):
    """A contestant cannot be measured here; the message says why."""


class Stage:
    """What a contestant is given.

    Attributes:
        quick: Only show that it works; figures need not be trusted.
        size: Of :attr:`Contest.sizes <mediaflow.bench.contest.Contest.sizes>`, the one that is asked about.
        redis_url: A private server, empty when a contestant starts.
        redis_pid: Its process.
        redis: A connection to it, for what a contestant wants to know of it (``INFO``, ``SLOWLOG``).
        scratch: A directory.
    """

    def __init__(
        self, store: EmbeddedStore, redis: Any, clusters: Clusters, scratch: Path, *, quick: bool
    ) -> None:
        self.quick = quick
        self.size = 0
        self.redis_url = store.url
        self.redis_pid = store.pid
        self.redis = redis
        self.scratch = scratch
        self._clusters = clusters

    def scaled(self, full: _T, quick: _T) -> _T:
        """Return how many, or how long: ``full``, or ``quick`` in a quick run."""
        return quick if self.quick else full

    def program(
        self, module: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Program]:
        """Run a module in a process of its own for as long as the context lasts.

        It finds the Redis in ``MEDIAFLOW_REDIS_URL``.
        """
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MEDIAFLOW_")}
        ours = {"MEDIAFLOW_REDIS_URL": self.redis_url, "MEDIAFLOW_LOG_LEVEL": "error"}
        return program.program(
            module.rpartition("mediaflow.")[2],
            program.module(module, *arguments),
            self.scratch,
            {**clean, **ours, **(environment or {})},
        )

    async def result(self, module: str, *arguments: object, deadline_s: float = 60.0) -> dict[str, Any]:
        """Run a module, and return the first JSON object that it says.

        Raises:
            ProgramError: It ended, or said none by the deadline.
        """
        async with self.program(module, *arguments) as running:
            return await running.heard(deadline_s)

    async def cluster(self, primaries: int) -> Cluster:
        """Return an empty Redis Cluster of so many primaries.

        It goes on running until one of another size is asked for, or the run ends.

        Raises:
            EmbeddedStoreError, ClusterError: There is none in time.
        """
        return await self._clusters.of(primaries)

    async def clear(self) -> None:
        """Empty Redis, and its statistics."""
        await self.redis.flushall()
        await self.redis.script_flush()
        await self.redis.config_resetstat()


@asynccontextmanager
async def stage(*, quick: bool) -> AsyncGenerator[Stage]:
    """Give a stage, and take it down afterwards.

    Raises:
        NoServerError: There is no server of a fit version on the PATH.
    """
    with TemporaryDirectory(prefix="mediaflow-bench-", ignore_cleanup_errors=True) as scratch:
        binary = find()
        async with EmbeddedStore(binary) as store, Clusters(binary) as clusters:
            client: Any = Redis  # half of its types are unknown
            redis = client.from_url(store.url, decode_responses=True)
            try:
                yield Stage(store, redis, clusters, Path(scratch), quick=quick)
            finally:
                await asyncio.shield(redis.aclose())


def find() -> ServerBinary:
    """Return the server to measure with.

    Raises:
        NoServerError: There is none of a fit version on the PATH.
    """
    binary = find_server()
    if binary is None or binary.origin != "PATH" or binary.version < PREFERRED:
        wanted = ".".join(map(str, PREFERRED))
        raise NoServerError(
            f"no redis-server of version {wanted} or later on the PATH: bench measures with a real one"
        )
    return binary
