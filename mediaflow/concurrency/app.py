"""The concurrency service as a program: its endpoints on aiohttp, beside health, metrics and documents.

It keeps nothing: any number of replicas over one Redis answer alike.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from mediaflow.concurrency.endpoints import Endpoints
from mediaflow.concurrency.exchange import Request
from mediaflow.concurrency.identity import Identity
from mediaflow.limiter import StreamLimiter
from mediaflow.settings import Settings
from mediaflow.store import NamespaceMismatch, RedisStore, StoreUnavailable
from mediaflow.telemetry.metrics import Metrics
from mediaflow.web import bodies, docs, health, openapi
from mediaflow.web.express import Answer, Errand, Headers
from mediaflow.web.program import EXIT_USAGE, Bound, Program, StartError, background, serve
from mediaflow.web.program import command as make_command
from mediaflow.web.surface import Route, Surface

NAME = "concurrency"

FLAGS = (
    "stream_limit",
    "count_by",
    "stream_ttl",
    "stream_heartbeat_interval",
    "stream_throttle",
    "stream_rules",
    "readmit",
    "on_store_down",
    "stream_tokens",
    "token_key",
    "jwt_algorithms",
    "jwt_key",
    "jwt_jwks",
    "jwt_issuer",
    "jwt_audience",
)

_COUNTED = {
    "started": "Streams begun.",
    "refused": "Streams refused: one too many.",
    "taken_over": "Streams ended by another that took their place.",
    "expired": "Streams whose heartbeats ceased.",
    "stopped": "Streams ended by their players.",
    "readmitted": "Streams that came back after they expired, or after a loss in Redis.",
    "degraded": "Answers without Redis, uncounted.",
    "throttled": "Requests refused: too many in a minute.",
}
_WATCH_INTERVAL_S = 1.0
_BUCKETS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 50, 100)


def surface(limiter: StreamLimiter, settings: Settings, problem: Callable[[], str] | None = None) -> Surface:
    """Return the HTTP face of a limiter; ``problem`` says why it is not ready.

    Raises:
        SettingsError: What authenticates players is not as it should be.
    """
    endpoints = Endpoints(limiter, Identity(settings))

    async def respond(request: web.Request) -> web.Response:
        asked = _request(
            request.method, request.rel_url.raw_path, request.headers, lambda: bodies.read(request)
        )
        response = await endpoints.respond(asked)
        return web.Response(status=response.status, headers=response.headers, body=response.body or None)

    def express(method: str, path: str, headers: Headers) -> Errand | None:
        found = endpoints.find(method, path)
        if found is None:
            return None
        endpoint, parameters = found

        async def errand(body: bytes) -> Answer:
            began_s = time.perf_counter()

            async def read() -> bytes:
                return body

            asked = _request(method, path, headers, read)
            response = await endpoints.carry_out(endpoint, asked, parameters)
            face.metrics.observe_request(
                method, endpoint.operation.path, response.status, time.perf_counter() - began_s
            )
            return response

        return errand

    face = Surface(
        NAME,
        settings,
        problem or (lambda: limiter.problem),
        about="Decides how many streams may run.",
        unmatched=respond,
        own_prefixes=("/v1/", "/.well-known/"),
        express=express,
    )
    _measure(face.metrics, limiter)
    face.add(*(Route.of(endpoint.operation, respond) for endpoint in endpoints.table))
    health.add_routes(face)
    openapi.add_routes(face)
    docs.add_routes(face)
    return face


def _request(method: str, path: str, headers: Headers, read: Callable[[], Awaitable[bytes]]) -> Request:
    def given(name: str) -> Sequence[str]:
        return headers.getall(name, ())

    return Request(method, path, given, read)


def _measure(metrics: Metrics, limiter: StreamLimiter) -> None:
    for name, about in _COUNTED.items():
        metrics.counter(f"streams_{name}", about, lambda name=name: limiter.counts[name])
    limiter.on_start = metrics.histogram(
        "streams_of_user", "Streams that a user has, at each start, the new one included.", _BUCKETS
    )


class _StoreWatch:
    """Knows whether Redis can be reached also while no player asks, and so none would find out."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.problem = "Redis was not reached yet"

    async def run(self) -> None:
        while True:
            try:
                await self._store.check(timeout_s=_WATCH_INTERVAL_S)
                self.problem = ""
            except NamespaceMismatch as error:
                raise StartError(str(error), EXIT_USAGE) from None
            except StoreUnavailable as error:
                self.problem = str(error)
            await asyncio.sleep(_WATCH_INTERVAL_S)


@asynccontextmanager
async def build(settings: Settings, bound: Bound, store: RedisStore) -> AsyncGenerator[Program]:
    """Build the program around a limiter."""
    del bound
    watch = _StoreWatch(store)
    async with StreamLimiter(settings, store=store) as limiter, background(watch.run()):
        face = surface(limiter, settings, lambda: watch.problem)
        face.measure(store)
        yield Program(app=face.application(), problem=lambda: watch.problem)


async def run(settings: Settings) -> None:
    """Run the service until it is told to stop."""
    await serve(NAME, settings, build)


command = make_command(NAME, run, FLAGS, about="Count the streams of users, and refuse one too many.")
