"""``GET /events``: every change of state as server-sent events, resumable by ``Last-Event-ID``.

One poller a process asks whether the log moved; each client then reads from its own position, so that a
slow client holds up nobody and nothing is kept in memory for it. Not guaranteed: that a client sees events
which the capped log has dropped meanwhile; it is sent an event ``reset`` then, and reads the state anew.
"""

import asyncio
import contextlib

import msgspec
import structlog
from aiohttp import web

from mediaflow.store import Event, EventPosition, Store, StoreError
from mediaflow.web.calls import event_view
from mediaflow.web.problems import Refusal, unavailable
from mediaflow.web.surface import EVENT_STREAM, Parameter, Route, Surface

MAX_CLIENTS = 100
POLL_INTERVAL_S = 0.2
RETRY_INTERVAL_S = 1.0
HEARTBEAT_INTERVAL_S = 15.0
WRITE_TIMEOUT_S = 30.0

_log = structlog.get_logger(__name__)


class EventFeed:
    """Tells clients of ``/events`` when to read on. :meth:`run` has to run meanwhile."""

    def __init__(self, store: Store, *, heartbeat_interval_s: float = HEARTBEAT_INTERVAL_S) -> None:
        self._store = store
        self._heartbeat_interval_s = heartbeat_interval_s
        self._clients = 0
        self._wanted = asyncio.Event()
        self._moved = asyncio.Event()
        self._closing = False

    async def run(self) -> None:
        """Watch the log while somebody listens, until cancelled."""
        seen: EventPosition | None = None
        while True:
            await self._wanted.wait()
            try:
                position = await self._store.tail()
            except StoreError:
                await asyncio.sleep(RETRY_INTERVAL_S)
                continue
            if position != seen:
                seen = position
                self._wake()
            await asyncio.sleep(POLL_INTERVAL_S)

    def close(self) -> None:
        """End all streams, and refuse new ones."""
        self._closing = True
        self._wake()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer ``GET /events``."""
        position = await self._start(request.headers.get("Last-Event-ID", ""))
        if self._clients >= MAX_CLIENTS:
            raise unavailable(f"{MAX_CLIENTS} clients read events here already")
        response = web.StreamResponse(headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"})
        self._clients += 1
        self._wanted.set()
        try:
            await response.prepare(request)
            with contextlib.suppress(ConnectionError, TimeoutError):  # the client left, or stopped reading
                await self._follow(response, position)
        finally:
            self._clients -= 1
            if not self._clients:
                self._wanted.clear()
        return response

    async def _start(self, last_event_id: str) -> EventPosition:
        if not last_event_id:
            return await self._store.tail()
        try:
            return await self._store.position_of(last_event_id)
        except ValueError:
            raise Refusal(
                400,
                f"Last-Event-ID {last_event_id[:80]!r} is not the id of an event: send one, or none at all",
            ) from None

    async def _follow(self, response: web.StreamResponse, position: EventPosition) -> None:
        await _write(response, b": events of mediaflow\n\n")
        while not self._closing:
            moved = self._moved
            try:
                batch = await self._store.events(position)
            except StoreError:
                await self._idle(response, moved)
                continue
            position = batch.position
            if batch.reset:
                await _write(response, b"event: reset\ndata: {}\n\n")
            if batch.events:
                await _write(response, b"".join(map(_encode, batch.events)))
            else:
                await self._idle(response, moved)

    async def _idle(self, response: web.StreamResponse, moved: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._heartbeat_interval_s):
                await moved.wait()
        except TimeoutError:
            # A comment: it keeps proxies from closing the connection, and shows us whether the client left.
            await _write(response, b": still here\n\n")

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def add_routes(surface: Surface, feed: EventFeed) -> None:
    """Add ``/events`` to a surface."""
    surface.add(
        Route(
            method="GET",
            path="/events",
            handler=feed.serve,
            summary="Every change of state as server-sent events; an event reset says that some were missed.",
            answers={200: EVENT_STREAM},
            refusals=(400, 401, 503),
            parameters=(
                Parameter("Last-Event-ID", "header", "Go on behind this event.", {"type": "string"}),
            ),
        )
    )


def _encode(event: Event) -> bytes:
    data = msgspec.json.encode(event_view(event))
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.event_id.encode(), event.event.encode(), data)


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(data)
