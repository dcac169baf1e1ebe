"""A link to a Redis Cluster: each script goes to the node that serves its keys' hash slot."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from mediaflow.store.link import Call, Primary, Server, evaluate
from mediaflow.store.single import SingleLink


class ClusterLink:
    """A Redis Cluster: each script goes to the node that serves its keys' hash slot."""

    def __init__(self, client: RedisCluster, server: Server, node_settings: dict[str, Any]) -> None:
        """Wrap a cluster client; ``node_settings`` open a connection for messages to any one node."""
        self._client: Any = client
        self.server = server
        self._node_settings = node_settings
        self._listener: Any = None

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Run one script."""
        async with asyncio.timeout(timeout_s):
            return await evaluate(self._client, call, flags=self.server.knows_flags)

    async def run(self, call: Call, *, replicas: int = 0, replicas_timeout_ms: int = 0) -> tuple[Any, int]:
        """Run one script, following the cluster's redirections."""
        reply = await evaluate(self._client, call, flags=self.server.knows_flags)
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
                return await evaluate(self._client, call, flags=self.server.knows_flags)
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

    def primaries(self) -> list[Primary]:
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
