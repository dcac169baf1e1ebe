"""One table of routes makes both the application and its OpenAPI document, so that neither can drift.

Order of the layers around a handler: metrics see every answer, problems turn exceptions into answers,
authorization refuses before anything is looked at.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, Self

import msgspec
from aiohttp import web
from aiohttp.hdrs import METH_ALL
from aiohttp.typedefs import Middleware

from mediaflow.settings import Settings
from mediaflow.store import RedisStore
from mediaflow.telemetry import tracing
from mediaflow.telemetry.metrics import Metrics
from mediaflow.web import auth, problems
from mediaflow.web.express import EXPRESS, Express
from mediaflow.web.problems import Handler, Refusal

EVENT_STREAM = "text/event-stream"
METRICS = web.AppKey("metrics", Metrics)
"""Of an application: what its program counts."""


class Parameter(NamedTuple):
    """A parameter of a route, as OpenAPI describes it."""

    name: str
    where: Literal["path", "query", "header"]
    about: str
    schema: Mapping[str, Any]


CALL_ID = Parameter(
    "callId", "path", "Name of the call.", {"type": "string", "pattern": r"^[A-Za-z0-9._~:@+\-]{1,128}$"}
)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One request that is answered, as OpenAPI describes it.

    Attributes:
        path: With parameters as in ``/calls/{callId}``.
        answers: By status: a message type, a media type, or None for an empty body. Problems are added.
        refusals: Statuses that are answered with a problem.
        problems: Message types of those refusals that tell more than a :class:`~mediaflow.api.messages.Problem`.
        meanings: What statuses mean here, where the general words do not do.
        headers: Headers of answers, by status.
        takes_object: The request may have a JSON object as its body.
        body: The message type of the body that the request must have.
        example: Such a body.
        open: It needs no token whatever is set.
        traced: A span tells of it, in the trace that the request came with.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    summary: str
    answers: Mapping[int, type[msgspec.Struct] | str | None]
    refusals: tuple[int, ...] = ()
    problems: Mapping[int, type[msgspec.Struct]] = field(default_factory=dict[int, type[msgspec.Struct]])
    meanings: Mapping[int, str] = field(default_factory=dict[int, str])
    headers: Mapping[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    parameters: tuple[Parameter, ...] = ()
    takes_object: bool = False
    body: type[msgspec.Struct] | None = None
    example: Mapping[str, Any] | None = None
    open: bool = False
    traced: bool = False


@dataclass(frozen=True, kw_only=True)
class Route(Operation):
    """One request that a surface answers, with what answers it."""

    handler: Handler

    @classmethod
    def of(cls, operation: Operation, handler: Handler) -> Self:
        """Return the route of an operation."""
        described = {one.name: getattr(operation, one.name) for one in fields(Operation)}
        return cls(**described, handler=handler)


@dataclass
class Surface:
    """The HTTP face of one program, as it is being put together.

    Attributes:
        name: As in the command: ``worker``, ``loadbalancer``, …
        problem: Says in a line why the program is not ready; empty if it is.
        translate: Turns exceptions that only this program knows into refusals.
        about: What the program does, in a sentence, for its OpenAPI document.
        unmatched: Answers what no route does, below :attr:`own_prefixes`.
        own_prefixes: Paths whose routes look after authorization themselves.
        express: Answers requests the short way; it sees none of the layers, and measures by itself.
    """

    name: str
    settings: Settings
    problem: Callable[[], str]
    translate: Callable[[Exception], Refusal | None] = lambda _: None
    metrics: Metrics = field(default_factory=Metrics)
    routes: list[Route] = field(default_factory=list[Route])
    about: str = "Decides who runs a call."
    unmatched: Handler | None = None
    own_prefixes: tuple[str, ...] = ()
    express: Express | None = None

    def __post_init__(self) -> None:
        """Add what every program measures."""
        self.metrics.gauge(
            "ready", "1 while the program is ready, else 0.", lambda: 0.0 if self.problem() else 1.0
        )

    def measure(self, store: RedisStore) -> None:
        """Add what a store measures of its way to Redis."""
        self.metrics.show(store.meter.instruments)
        self.metrics.counter(
            "store_generations",
            "Times that Redis was found, or was found to be another server than before; each but the first is a "
            "restart or a failover.",
            lambda: store.generation,
        )

    def add(self, *routes: Route) -> None:
        """Add routes; an application that was made before does not get them."""
        self.routes.extend(routes)

    def application(self) -> web.Application:
        """Return the application that serves the routes."""
        app = web.Application(
            middlewares=[
                _measuring(self.metrics),
                *([_tracing(self.routes)] if tracing.available() else []),
                problems.middleware(self.translate),
                auth.middleware(self.settings.api_token, self.own_prefixes),
                *([_falling_back(self.unmatched, self.own_prefixes)] if self.unmatched else []),
            ]
        )
        app[METRICS] = self.metrics
        if self.express is not None:
            app[EXPRESS] = self.express
        for route in self.routes:
            pattern = _pattern(route.path)
            if route.method == "GET" and EVENT_STREAM not in route.answers.values():
                app.router.add_get(pattern, route.handler)
            else:
                app.router.add_route(route.method, pattern, route.handler)
        return app


def _pattern(path: str) -> str:
    """Return a path as aiohttp writes it: a parameter takes any text without a slash, be it none.

    An empty name reaches its handler, so that it is refused for what it is; a call's does not.
    """
    return re.sub(r"{(\w+)}", _parameter_pattern, path)


def _parameter_pattern(found: re.Match[str]) -> str:
    return "{call_id:[^/]+}" if found[1] == "callId" else f"{{{found[1]}:[^/]*}}"


def json_response(message: msgspec.Struct, status: int = 200) -> web.Response:
    """Return a message as a JSON response."""
    return web.Response(status=status, body=msgspec.json.encode(message), content_type="application/json")


def _measuring(metrics: Metrics) -> Middleware:
    @web.middleware
    async def measured(request: web.Request, handler: Handler) -> web.StreamResponse:
        began_s = time.perf_counter()
        status = 499  # nobody was there to hear the answer
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            resource = request.match_info.route.resource
            route = "unmatched" if resource is None else resource.canonical
            # Clients make up methods; each one kept would be a row of metrics for ever.
            method = request.method if request.method in METH_ALL else "other"
            metrics.observe_request(method, route, status, time.perf_counter() - began_s)

    return measured


def _tracing(routes: Sequence[Route]) -> Middleware:
    names = {route.handler: f"{route.method} {route.path}" for route in routes if route.traced}

    @web.middleware
    async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
        if (name := names.get(request.match_info.handler)) is None:
            return await handler(request)
        came_with = tracing.received(
            request.headers.getall("traceparent", []), request.headers.getall("tracestate", [])
        )
        if not tracing.has_use_for(came_with):
            return await handler(request)
        attributes = {"http.request.method": request.method, "http.route": name.partition(" ")[2]}
        if call_id := request.match_info.get("call_id"):
            attributes["call.id"] = call_id[:128]
        with tracing.span(name, "server", attributes, came_with) as span:
            response = await handler(request)
            span.status(response.status)
            return response

    return traced


def _falling_back(answer: Handler, prefixes: tuple[str, ...]) -> Middleware:
    @web.middleware
    async def falling_back(request: web.Request, handler: Handler) -> web.StreamResponse:
        unmatched = request.match_info.http_exception is not None
        return await (answer if unmatched and request.path.startswith(prefixes) else handler)(request)

    return falling_back
