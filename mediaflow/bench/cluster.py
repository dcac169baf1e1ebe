"""A private Redis Cluster on this machine: a few primaries without replicas, each of them an embedded store.

Invariants: every hash slot is served, and every node knows all others, before anybody is given the cluster; its
servers are gone when the context is left, and with us if we die. It survives the loss of no node.
"""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

from redis.asyncio import Redis

from mediaflow.core.partitions import HASH_SLOTS
from mediaflow.store.embedded import EmbeddedStore, ServerBinary, free_port

_BUS = 10_000
"""By how much the port at which nodes speak to each other is above the one for clients."""

_WHOLE_WITHIN_S = 20.0
_LOOK_EACH_S = 0.02


class ClusterError(Exception):
    """The nodes did not become a cluster."""


class Cluster:
    """A cluster that serves, from :func:`cluster`.

    Attributes:
        url: Where it is, as ``redis_url`` wants it.
        pids: The process of each primary.
    """

    def __init__(self, nodes: Sequence[EmbeddedStore], clients: Sequence[Any]) -> None:
        self.url = f"redis+cluster://{','.join(f'127.0.0.1:{_port(node)}' for node in nodes)}"
        self.pids = tuple(node.pid for node in nodes)
        self._clients = clients

    async def clear(self) -> None:
        """Empty all of it."""
        for client in self._clients:
            await client.flushall()
            await client.script_flush()


@asynccontextmanager
async def cluster(binary: ServerBinary, primaries: int) -> AsyncGenerator[Cluster]:
    """Run a cluster for as long as the context lasts.

    It takes two seconds at least: so long a primary that has just started accepts no writes.

    Raises:
        EmbeddedStoreError: A server does not start.
        ClusterError: They do not find each other.
    """
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                EmbeddedStore(binary, options=("--cluster-enabled", "yes"), pick_port=_port_with_bus)
            )
            for _ in range(primaries)
        ]
        factory: Any = Redis  # half of its types are unknown
        clients = [factory.from_url(node.url, decode_responses=True) for node in nodes]
        for client in clients:
            stack.push_async_callback(client.aclose)
        for client, (first, last) in zip(clients, shares(primaries), strict=True):
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            await client.execute_command("CLUSTER", "MEET", "127.0.0.1", _port(nodes[0]))
        await _whole(clients)
        yield Cluster(nodes, clients)


class Clusters:
    """The cluster that was asked for last. ``async with`` it: at the end it is stopped."""

    def __init__(self, binary: ServerBinary) -> None:
        """Have none yet."""
        self._binary = binary
        self._running = AsyncExitStack()
        self._last: Cluster | None = None

    async def __aenter__(self) -> Self:
        """Start nothing."""
        return self

    async def __aexit__(self, *failure: object) -> None:
        """Stop what runs."""
        await self._stop()

    async def of(self, primaries: int) -> Cluster:
        """Return one of so many primaries, which is empty: the last one, if it is such a one."""
        if self._last is None or len(self._last.pids) != primaries:
            await self._stop()
            self._last = await self._running.enter_async_context(cluster(self._binary, primaries))
        await self._last.clear()
        return self._last

    async def _stop(self) -> None:
        self._last = None
        await self._running.aclose()


def shares(primaries: int) -> list[tuple[int, int]]:
    """Return the first and the last hash slot of each primary: all of them, in equal parts."""
    ends = [HASH_SLOTS * number // primaries for number in range(primaries + 1)]
    return [(first, beyond - 1) for first, beyond in itertools.pairwise(ends)]


async def _whole(clients: Sequence[Any]) -> None:
    """Wait until each node serves, and knows of all the others that they do."""
    wanted = {"cluster_state:ok", f"cluster_size:{len(clients)}", f"cluster_known_nodes:{len(clients)}"}
    try:
        async with asyncio.timeout(_WHOLE_WITHIN_S):
            for client in clients:
                while True:
                    info: str = await client.execute_command("CLUSTER", "INFO")
                    if wanted <= set(info.split()):
                        break
                    await asyncio.sleep(_LOOK_EACH_S)
    except TimeoutError:
        raise ClusterError(f"{len(clients)} nodes were no cluster within {_WHOLE_WITHIN_S:g} s") from None


def _port(node: EmbeddedStore) -> int:
    return int(node.url.removesuffix("/0").rpartition(":")[2])


def _port_with_bus() -> int:
    while True:
        port = free_port()
        with socket.socket() as bus, contextlib.suppress(OSError, OverflowError):
            bus.bind(("127.0.0.1", port + _BUS))
            return port
