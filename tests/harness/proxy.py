"""A TCP proxy between a client and a server in which a network fails: it falls silent, refuses, delays, loses."""

import asyncio
import time
from types import TracebackType
from typing import Self

CHUNK_BYTES = 64 * 1024


class Proxy:
    """Forwards what comes to its port to ``port`` of this host, as well as a test lets it. ``async with`` it.

    What is held back in a silence is forwarded at its end, as TCP does after a network partition: a request
    whose client has long given up may still be carried out.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", target_host: str = "127.0.0.1") -> None:
        self.host = host
        self.target_host = target_host
        self.target_port = port
        self.port = 0
        self.lost_replies = 0
        self.requests: list[bytes] = []
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._requests_flow = _open_gate()
        self._replies_flow = _open_gate()
        self._delay_s = 0.0
        self._to_lose: list[tuple[bytes, bool]] = []
        self._lose_each: tuple[int, bytes] | None = None
        self._until_lost = 0

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where a Redis behind it is found."""
        return f"redis://{self.address}/0"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    # -- faults -----------------------------------------------------------------------------

    def black_hole(self) -> None:
        """Forward nothing any more, in no direction; connections stay open, and new ones are accepted."""
        self._requests_flow.clear()
        self._replies_flow.clear()

    def hold_replies(self) -> None:
        """Let requests through, and hold back every reply."""
        self._replies_flow.clear()

    def heal(self) -> None:
        """Forward all again, what was held back first."""
        self._delay_s = 0.0
        self._lose_each = None
        self._requests_flow.set()
        self._replies_flow.set()

    def delay(self, seconds: float) -> None:
        """Forward each piece, in each direction, so much later."""
        self._delay_s = seconds

    def lose_reply(self, word: bytes, *, silently: bool = False) -> None:
        """Let the next request that contains ``word`` pass, and lose the reply to it.

        The connection breaks in its place; with ``silently`` it stays, and nothing comes. That a script is not
        known is no reply for this purpose, for then nothing was done.
        """
        self._to_lose.append((word, silently))

    def lose_replies(self, word: bytes, *, one_in: int) -> None:
        """Lose the reply to one in so many requests that contain ``word``, until it heals."""
        self._lose_each, self._until_lost = (one_in, word), one_in

    async def refuse(self) -> None:
        """Break all connections, and refuse new ones."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self.break_connections()
        if server is not None:
            await server.wait_closed()

    async def break_connections(self) -> None:
        """Break all connections that there are."""
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)

    async def accept(self) -> None:
        """Accept connections, at the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    # -- forwarding -------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            await self._requests_flow.wait()
            replies, upstream = await asyncio.open_connection(self.target_host, self.target_port)
            losing: list[bool] = []
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._pass_requests(reader, upstream, losing))
                directions.create_task(self._pass_replies(replies, writer, losing))
        except (OSError, _Broken, ExceptionGroup, asyncio.CancelledError):
            # However a connection ends, both of its halves end with it; the test asks what became of it.
            pass
        finally:
            self._pipes.discard(task)
            for half in (writer, upstream):
                if half is not None:
                    half.transport.abort()

    async def _pass_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: list[bool]
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            self._mark(data, losing)
            await self._travel(self._requests_flow)
            writer.write(data)
            await writer.drain()
        raise _Broken

    def _mark(self, data: bytes, losing: list[bool]) -> None:
        """Note if the reply to this request is to be lost, and whether silently."""
        for entry in self._to_lose:
            if entry[0] in data:
                losing.append(entry[1])
                self._to_lose.remove(entry)
                return
        if self._lose_each is None or self._lose_each[1] not in data:
            return
        self._until_lost -= 1
        if self._until_lost <= 0:
            self._until_lost = self._lose_each[0]
            losing.append(False)

    async def _pass_replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: list[bool]
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if losing and b"NOSCRIPT" in data:
                # Nothing was done. The request that now follows, with the script's text, is the one meant.
                pass
            elif losing:
                self.lost_replies += 1
                if not losing.pop(0):
                    raise _Broken
                continue
            await self._travel(self._replies_flow)
            writer.write(data)
            await writer.drain()
        raise _Broken

    async def _travel(self, flow: asyncio.Event) -> None:
        arrives_at_s = time.monotonic() + self._delay_s
        while (left_s := arrives_at_s - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
        await flow.wait()


class _Broken(Exception):
    """One half of a connection has ended."""


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate
