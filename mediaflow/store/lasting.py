"""Connections that are made to the end, though whoever wanted one first has given up.

A request waits a second for its answer, and a new connection takes several round trips before the request is even
sent. Given up together with the request, the connection to a Redis that answers slowly would never come about: each
try would begin the handshake anew, and add to what makes Redis slow.

Not for Sentinel: which server is the primary is asked anew for each connection, and a handshake that outlives its
request may end at a primary that was replaced meanwhile, and does not know it yet. Nor for Redis Cluster, whose client
makes its connections itself.
"""

import asyncio
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import TimeoutError as RedisTimeoutError

HANDSHAKE_TIMEOUT_S = 2.0
"""A connection on which packets were lost is slow to mend; after so long a new one is the better chance."""


class Lasting:
    """What a connection class of redis-py is mixed with; :meth:`disconnect` ends the task that connects."""

    _making: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Connect, or join whoever has begun to; a cancelled caller leaves the work going on."""
        parent: Any = super()
        if self._making is None:
            if parent.is_connected:
                return
            self._making = asyncio.create_task(self._make(parent.connect), name="connecting to Redis")
            self._making.add_done_callback(_hear)
        await asyncio.shield(self._making)

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """Give up what is being made, and close what there is."""
        making = self._making
        if making is not None and making is not asyncio.current_task():
            making.cancel()
            await asyncio.wait([making])
        parent: Any = super()
        await parent.disconnect(*args, **kwargs)

    async def _make(self, connect: Any) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await connect()
        except TimeoutError:
            raise RedisTimeoutError(f"no connection within {HANDSHAKE_TIMEOUT_S:g} s") from None
        finally:
            self._making = None


def _hear(making: asyncio.Task[None]) -> None:
    """Take note of a failure that nobody waits for any more: the next request tries again, and tells."""
    if not making.cancelled():
        making.exception()


class _Tcp(Lasting, Connection):
    pass


class _Tls(Lasting, SSLConnection):
    pass


class _Unix(Lasting, UnixDomainSocketConnection):
    pass


_LASTING: dict[Any, type[Lasting]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


def make_lasting(pool: Any) -> None:
    """Have a pool that has made no connection yet make lasting ones."""
    pool.connection_class = _LASTING[pool.connection_class]
