"""One connection to a server, with many requests on their way at once.

redis-py opens it: TLS, credentials, database, who Sentinel says is primary, our greeting. From then on its transport
is ours. What is asked for in one turn of the event loop goes out in few writes, packed and read by hiredis: a fifth of
what the same costs in a pipeline of redis-py, which also waits for all replies of one before it writes the next.

Invariants:

* A reply goes to its own request or to nobody: one that was given up keeps its place in the line.
* A connection that owes a reply for ``silence_s`` is dropped, and all that was asked on it may have happened. So the
  next request asks anew who is primary, as it does after READONLY: on a frozen server nobody waits longer than that.
* No request is sent twice: asking again is :class:`~mediaflow.store.ask.Asker`'s.

Not for commands that block their connection (WAIT, SUBSCRIBE): all behind them would wait too.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

MOST_IN_FLIGHT = 500
"""Requests that are written before their replies came, at most; the others wait here, where Redis need not."""

_WRITTEN_TOGETHER = 4
"""Requests in a write: of many in one turn of the event loop, Redis answers the first while the last are being made."""

_LATE_S = 0.01
"""By how much a deadline may be missed: many that are close together are looked at at once."""

_NOTHING = object()

_hiredis: Any = hiredis  # whose own types do not say what packing returns

Words = tuple[Any, ...]


def pack(words: Words) -> bytes:
    """Return a command as it goes over the wire.

    Raises:
        TypeError: A word is neither text nor bytes nor a number.
    """
    return _hiredis.pack_command(words)


class _Request:
    """Commands that are asked for together, and the replies that came so far."""

    __slots__ = ("deadline_s", "future", "packed", "replies", "sent_at_s", "size")

    def __init__(
        self, commands: Sequence[Words | bytes], deadline_s: float, future: asyncio.Future[list[Any]]
    ) -> None:
        # Here, so that words that cannot be packed are refused before the request has a place in the line.
        self.packed = b"".join(one if isinstance(one, bytes) else pack(one) for one in commands)
        self.size = len(commands)
        self.deadline_s = deadline_s
        self.future = future
        self.replies: list[Any] = []
        self.sent_at_s = 0.0


class _Line(asyncio.Protocol):
    """One connection, for as long as it lasts."""

    def __init__(self, connection: Any, silence_s: float) -> None:
        """Take the transport of a connection of redis-py, which was greeted and has nothing on its way."""
        self._loop = asyncio.get_running_loop()
        self._silence_s = silence_s
        self._queued: deque[_Request] = deque()
        self._in_flight: deque[_Request] = deque()
        self._will_flush = False
        self._timer: asyncio.Handle | None = None
        # Kept here: uvloop's handle of what is due within half a millisecond does not tell.
        self._looks_at_s = math.inf
        self.lost = False
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # noqa: SLF001 - which knows redis-py's classes of errors
            notEnoughData=_NOTHING,
        )
        # Kept, because it closes the transport when it is collected; and the connection warns if it still has it then.
        self._writer: asyncio.StreamWriter = connection._writer  # noqa: SLF001 - redis-py has no other way to hand it over
        connection._writer = connection._reader = None  # noqa: SLF001
        self._writer.transport.set_protocol(self)
        self.lost = self._writer.transport.is_closing()
        if not self.lost:
            # Else uvloop keeps all writes back until the end of the turn.
            self._writer.transport.set_write_buffer_limits(0)

    def ask(self, commands: Sequence[Words | bytes], timeout_s: float) -> asyncio.Future[list[Any]]:
        """Have commands sent, at the end of this turn of the event loop at the latest."""
        now_s = self._loop.time()
        request = _Request(commands, now_s + timeout_s, self._loop.create_future())
        if self.lost:
            request.future.set_exception(RedisConnectionError("Connection closed by server"))
            return request.future
        self._queued.append(request)
        if len(self._queued) >= _WRITTEN_TOGETHER:
            self._flush()
        elif not self._will_flush:
            self._will_flush = True
            self._loop.call_soon(self._flush)
        due_s = now_s + min(timeout_s, self._silence_s)
        if due_s < self._looks_at_s:
            self._look_at(due_s)
        return request.future

    def _flush(self) -> None:
        self._will_flush = False
        if self.lost:
            return
        now_s = self._loop.time()
        packed: list[bytes] = []
        while self._queued and len(self._in_flight) < MOST_IN_FLIGHT:
            request = self._queued.popleft()
            if not request.future.done():
                request.sent_at_s = now_s
                self._in_flight.append(request)
                packed.append(request.packed)
        if packed:
            self._writer.transport.write(b"".join(packed))

    def data_received(self, data: bytes) -> None:
        """Hand replies out, in the order of the requests."""
        self._reader.feed(data)
        stale = False
        try:
            while (reply := self._reader.gets()) is not _NOTHING:
                request = self._in_flight[0]
                request.replies.append(reply)
                stale = stale or isinstance(reply, ReadOnlyError)
                if len(request.replies) == request.size:
                    self._in_flight.popleft()
                    if not request.future.done():
                        request.future.set_result(request.replies)
        except (InvalidResponse, IndexError):
            self.drop(RedisConnectionError, "Redis sent what nobody asked for")
        if stale:
            self.drop(RedisConnectionError, "The primary is a replica now")
        if self._queued and not self._will_flush:
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait."""
        del exc
        self.drop(RedisConnectionError, "Connection closed by server")

    def drop(self, kind: type[Exception], why: str) -> None:
        """Close the connection; what waits for an answer gets none, and may have happened."""
        if self.lost:
            return
        self.lost = True
        self._writer.transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        for request in (*self._in_flight, *self._queued):
            if not request.future.done():
                request.future.set_exception(kind(why))
        self._in_flight.clear()
        self._queued.clear()

    def _look_at(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._look)
        self._looks_at_s = at_s

    def _look(self) -> None:
        """Give up what is past its deadline, and the connection if it has been silent for too long."""
        self._timer, self._looks_at_s = None, math.inf
        now_s = self._loop.time()
        if self._in_flight and self._in_flight[0].sent_at_s + self._silence_s <= now_s:
            self.drop(RedisTimeoutError, "no answer in time")
            return
        due_s = [self._in_flight[0].sent_at_s + self._silence_s] if self._in_flight else []
        for request in (*self._in_flight, *self._queued):
            if request.future.done():
                continue
            if request.deadline_s <= now_s:
                request.future.set_exception(RedisTimeoutError("no answer in time"))
            else:
                due_s.append(request.deadline_s)
        if due_s:
            self._look_at(max(min(due_s), now_s + _LATE_S))


class _Abandoned(Exception):
    """Whoever was connecting was cancelled; nothing is known of the server."""


class Pipe:
    """Requests to one server, over a connection that is opened when there is none."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], silence_s: float) -> None:
        """``connect`` opens a connection of redis-py; nothing is connected yet."""
        self._connect = connect
        self._silence_s = silence_s
        self._line: _Line | None = None
        self._attempt: asyncio.Future[_Line] | None = None

    def ask(self, commands: Sequence[Words | bytes], timeout_s: float) -> Awaitable[list[Any]]:
        """Run commands, one at least, in one go; a failed one gives its exception in its place.

        Those that are asked for again and again may be handed in packed.

        Raises:
            redis.exceptions.TimeoutError, TimeoutError: No answer within ``timeout_s``.
            redis.exceptions.ConnectionError: There is no connection, or it broke.
        """
        line = self._line
        if line is None or line.lost:
            return self._ask_anew(commands, timeout_s)
        return line.ask(commands, timeout_s)

    async def _ask_anew(self, commands: Sequence[Words | bytes], timeout_s: float) -> list[Any]:
        until_s = asyncio.get_running_loop().time() + timeout_s
        async with asyncio.timeout_at(until_s):
            line = await self._connected()
        return await line.ask(commands, until_s - asyncio.get_running_loop().time())

    async def _connected(self) -> _Line:
        """Return a connection: one that was opened since, or by whoever of those who need it came first."""
        while True:
            if self._line is not None and not self._line.lost:
                return self._line
            if self._attempt is None:
                return await self._open()
            try:
                return await asyncio.shield(self._attempt)
            except _Abandoned:
                continue

    async def _open(self) -> _Line:
        attempt = self._attempt = asyncio.get_running_loop().create_future()
        try:
            self._line = line = _Line(await self._connect(), self._silence_s)
        except BaseException as error:
            attempt.set_exception(error if isinstance(error, Exception) else _Abandoned())
            attempt.exception()  # marks it as seen: perhaps nobody else waits
            raise
        else:
            attempt.set_result(line)
            return line
        finally:
            self._attempt = None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._line is not None:
            self._line.drop(RedisConnectionError, "The store was closed")
            self._line = None
