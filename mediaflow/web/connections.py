"""What one client may take of a program: how many connections, how long for a request's head and for our answer.

aiohttp bounds sizes (8190 bytes for a line or a header, 128 headers) and :mod:`mediaflow.web.bodies` the body. What
is left is here: who sends a byte a second, or reads none, would else be waited for without end, and who opens
connections would take the file descriptors with which leases are renewed. What is no HTTP at all is answered with
a problem like every other mistake, and is no more than a debug line: anybody can send it as often as they like.
"""

import asyncio
import resource
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_parser import HttpRequestParser

from mediaflow.web import problems
from mediaflow.web.express import Errand, Express, serialized
from mediaflow.web.express import errand as find_errand
from mediaflow.web.problems import Refusal

MAX_CONNECTIONS = 4096
"""Connections of clients at once, and never more than half of the file descriptors that the process may open."""

HEAD_TIMEOUT_S = 10.0
"""From the first byte of a request to the end of its headers."""

WRITE_TIMEOUT_S = 30.0
"""For a client to take an answer that is ready."""

LINGER_S = 2.0
"""How long what is left of a refused body is still read, so that the client gets to see the refusal."""

SETTLE_TURNS = 4
"""Turns of the event loop in which aiohttp's handler is back to wait for the next request; it takes two."""

IDLE_TIMEOUT_S = 620.0
"""For the next request: longer than load balancers keep a connection, or they would send into a closed one."""

_OF_THE_HANDLER = ("_close", "_keepalive", "_keepalive_handle", "_messages", "_parser", "_paused", "_waiter")
HAS_SHORT_WAY = hasattr(HttpRequestParser, "message_consumed") and all(
    hasattr(web.RequestHandler, name) for name in (*_OF_THE_HANDLER, "_process_keepalive")
)
"""Whether this aiohttp is built as the short way has to know it (3.14.1 is); else all goes the usual one."""

_log: Any = structlog.get_logger(__name__)


def most_connections() -> int:
    """Return how many connections of clients this process takes at once."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if descriptors < 0 else max(1, min(MAX_CONNECTIONS, descriptors // 2))


class Door:
    """Makes a protocol for each connection that is accepted, and turns away those above the bound.

    Args:
        server: Handles the requests.
        most: Connections at once.
        express: What is answered the short way, if anything is, and if the aiohttp that is installed lets us.
    """

    def __init__(self, server: web.Server, most: int, express: Express | None = None) -> None:
        self._server = server
        self.express = express if HAS_SHORT_WAY else None
        self.most = most
        self.open = 0
        # Owned here, for they may outlive their connections: whoever stops a stream need not wait.
        self.under_way: set[asyncio.Task[None] | None] = set()

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        if self.open >= self.most:
            return _TurnedAway(self.most)
        return Connection(self, self._server)

    async def finished(self, within_s: float) -> None:
        """Wait until nothing that was asked here the short way is under way; what takes longer is cancelled."""
        if tasks := [task for task in self.under_way if task is not None]:
            _, late = await asyncio.wait(tasks, timeout=within_s)
            for task in late:
                task.cancel()


class Connection(web.RequestHandler):
    """One client's connection; see the module on what it may take."""

    __slots__ = ("_door", "_head_timer", "_held", "_settling", "_under_way")

    def __init__(self, door: Door, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # none is meant, and taken
            keepalive_timeout=IDLE_TIMEOUT_S,
            lingering_time=LINGER_S,
        )
        self._door = door
        self._head_timer: asyncio.TimerHandle | None = None
        self._under_way: asyncio.Task[None] | None = None
        self._held = b""
        self._settling = 0 if door.express is None else SETTLE_TURNS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self._door.open += 1
        super().connection_made(transport)
        if isinstance(transport, asyncio.WriteTransport):
            # Else uvloop keeps an answer back until those of all other clients are ready, too.
            transport.set_write_buffer_limits(0)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it no longer."""
        self._door.open -= 1
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that it leaves unfinished has to be finished in time."""
        if self._under_way is not None:
            # Answers go out in the order of their requests, so the next one is not looked at yet.
            self._held += data
            if data and self.transport is not None:
                self.transport.pause_reading()
            return
        waiter, express = self._waiter, self._door.express
        if waiter is None and self._settling:
            self._settle(data)
            return
        if express is None or waiter is None or waiter.done() or self._paused:
            super().data_received(data)
        else:
            self._waiter = None  # so that nobody is woken by what may go the short way
            super().data_received(data)
            self._waiter = waiter
            if self._messages and not self._sent_out(express):
                waiter.set_result(None)
        if self._under_way is not None or self._waiter is None or self._waiter.done():
            self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = asyncio.get_running_loop().call_later(HEAD_TIMEOUT_S, self._on_slow_head)

    def _settle(self, data: bytes) -> None:
        """Keep what came before aiohttp's handler waits for it: it would go the usual way, as all after it would."""
        if not self._held:
            self._loop.call_soon(self._settled)
        self._held += data

    def _settled(self) -> None:
        if self.transport is None:
            return
        self._settling -= 1
        if self._waiter is None and self._settling:
            self._loop.call_soon(self._settled)
            return
        self._settling = 0
        data, self._held = self._held, b""
        self.data_received(data)

    def _sent_out(self, express: Express) -> bool:
        """Have the request that came answered the short way, if it can be."""
        message, payload = self._messages[0]
        errand = find_errand(express, message, payload) if len(self._messages) == 1 else None
        if errand is None:
            return False
        self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        self._keepalive = True
        self._next_keepalive_close_time = self._loop.time() + IDLE_TIMEOUT_S
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
        self._under_way = task = self._loop.create_task(self._run(errand, message, payload))
        self._door.under_way.add(task)
        return True

    async def _run(self, errand: Errand, message: Any, payload: Any) -> None:
        """Answer one request the short way, then look at what came meanwhile."""
        task = self._under_way
        try:
            answer = serialized(await errand(payload.read_nowait(-1) if payload.total_bytes else b""))
        except Exception as error:  # noqa: BLE001 - the last line of defence
            answer = _whole_answer(problems.unforeseen(message.method, message.path, error))
            self._close = True
        finally:
            self._under_way = None
            self._door.under_way.discard(task)
        if self.transport is None or self.transport.is_closing():
            return  # nobody is left to tell
        self.transport.write(answer)
        if self._close:
            self.transport.close()
        elif self._held:
            data, self._held = self._held, b""
            self.transport.resume_reading()
            self.data_received(data)

    def close(self) -> None:
        """Close when what is under way was answered."""
        if self._under_way is None:
            super().close()
        else:
            self._close = True

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's
        """Close, as soon as what is under way was answered, but within the time-out."""
        if self._under_way is not None:
            await asyncio.wait({self._under_way}, timeout=timeout)
        await super().shutdown(timeout)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, or failed outside of every handler."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer was sent already")
        if isinstance(exc, ConnectionError):
            raise exc  # the client went in the middle of its request: nobody is left to tell, nor anything to log
        if status < 500:
            # The first line: the rest repeats what was sent, with an arrow below it.
            reason = (message or "it cannot be parsed").strip().split("\n", 1)[0].rstrip(": ")[:200]
            _log.debug("not HTTP", client=request.remote, reason=reason)
            refusal = Refusal(status, f"this is not a request in HTTP/1.1: {reason}")
        else:
            error = exc if isinstance(exc, Exception) else RuntimeError(message or "no answer")
            refusal = problems.unforeseen(request.method, request.path, error)
        answer = problems.answer(refusal)
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, to those who take it."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            # Raised outside of our layers: an Expect that is none we can meet.
            resp = problems.answer(problems.of_aiohttp(request, resp))
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                sent = await super().finish_response(request, resp, start_time)
        except TimeoutError:
            if isinstance(self.transport, asyncio.WriteTransport):
                self.transport.abort()  # to close it would wait for the reader as well
            return resp, True
        # What is left of a body has to be read first; the next request comes after it.
        self._settling = SETTLE_TURNS if self._door.express and request.content.is_eof() else 0
        return sent

    def _on_slow_head(self) -> None:
        self._head_timer = None
        if isinstance(self.transport, asyncio.WriteTransport):
            reason = f"the headers did not arrive within {HEAD_TIMEOUT_S:g} s"
            self.transport.write(_whole_answer(Refusal(408, reason)))
        self.force_close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _TurnedAway(asyncio.Protocol):
    """A connection for which there is no room: told so, and closed."""

    def __init__(self, most: int) -> None:
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(
                _whole_answer(problems.unavailable(f"{self._most} connections are open here already"))
            )
            transport.close()


def _whole_answer(refusal: Refusal) -> bytes:
    """Return a refusal as bytes, for a connection on which no request is being handled."""
    answer = problems.answer(refusal)
    body = answer.body if isinstance(answer.body, bytes) else b""
    headers = {**answer.headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {refusal.status} {answer.reason}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + body
