"""Surfaces in process: a store of the test's own with something in it, and instances that only look like ones."""

import asyncio
import itertools
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from mediaflow.core import names
from mediaflow.settings import Settings
from mediaflow.store import InstanceReport, NewSession, Owner, Store, open_store
from mediaflow.web import calls, docs, events, health, openapi
from mediaflow.web.connections import Door
from mediaflow.web.express import EXPRESS
from mediaflow.web.problems import CALL_REFUSED, STORE_UNAVAILABLE
from mediaflow.web.surface import Surface

_numbers = itertools.count()


def own_settings(**settings) -> Settings:
    """Return settings with an empty store inside the process."""
    return Settings(redis_url=f"memory://{uuid.uuid4().hex}", **settings)


@asynccontextmanager
async def own_store(settings: Settings):
    store = await open_store(settings)
    await store.check()
    try:
        yield store
    finally:
        await store.close()


class _Runner(web.AppRunner):
    """Serves as the programs do: by our own connections."""

    @property
    def server(self):
        server = super().server
        return server and Door(server, 1000, self.app.get(EXPRESS))


class _Server(TestServer):
    async def _make_runner(self, **options):
        return _Runner(self.app, **options)


@asynccontextmanager
async def client_of(app: web.Application):
    async with TestClient(_Server(app)) as client:
        yield client


def reading_surface(store: Store, settings: Settings, feed: events.EventFeed, problem=lambda: "") -> Surface:
    """Return a surface with all that balancer and instance answer alike."""
    face = Surface("worker", settings, problem)
    calls.add_routes(face, store)
    events.add_routes(face, feed)
    health.add_routes(face)
    openapi.add_routes(face)
    docs.add_routes(face)
    return face


def report(instance_id: str, *, address: str = "127.0.0.1:1", slots: int = 10, used: int = 0, state="ready"):
    return InstanceReport(
        instance_id=instance_id,
        token="t-" + instance_id,
        incarnation=0,
        rank=names.rank(1, instance_id),
        address=address,
        slots=slots,
        used=used,
        state=state,
        version="0",
        started_at_ms=1,
    )


async def owner_of(store: Store, instance_id: str, **about) -> Owner:
    """Register an instance and return it as an owner."""
    said = report(instance_id, **about)
    beat = await store.heartbeat(said)
    return Owner(instance_id, beat.incarnation, said.rank)


async def start_call(store: Store, call_id: str, owner: Owner | None = None, metadata: bytes = b"{}"):
    number = next(_numbers)
    return await store.create(
        NewSession(
            call_id=call_id,
            session_id=names.session_id(1_700_000_000_000 + number, 0, number),
            idempotency_key=f"key-{number}",
            body_digest="digest",
            metadata=metadata,
            owner=owner,
        )
    )


@dataclass
class Asked:
    call_id: str
    body: bytes
    headers: dict[str, str]

    @property
    def slot_only(self) -> bool:
        return self.headers.get("Mediaflow-Placement") == "slot"


@dataclass
class PretendInstance:
    """An HTTP server that answers placements as a test says, and remembers them."""

    name: str
    answers: list = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    address: str = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/calls/{call_id:[^/]+}", self._place)
        app.router.add_post("/instances/{call_id:[^/]+}/drain", self._place)
        return app

    async def _place(self, request: web.Request) -> web.Response:
        asked = Asked(request.match_info["call_id"], await request.read(), dict(request.headers))
        self.asked.append(asked)
        answer = self.answers.pop(0) if self.answers else active
        return await answer(self, request, asked)


async def active(instance, request, asked):
    del request
    return _placed(instance, asked, "active", 201)


async def pending(instance, request, asked):
    del request
    return _placed(instance, asked, "pending", 201)


async def found(instance, request, asked):
    del request
    return _placed(instance, asked, "active", 200)


async def draining(instance, request, asked):
    del request, asked
    body = {"instanceId": instance.name, "address": instance.address, "state": "draining"}
    return web.json_response(body | {"slots": 10, "used": 3, "heartbeatAgeMs": 0}, status=202)


async def unauthorized(instance, request, asked):
    del instance, request, asked
    return problem(401, "this needs a token")


async def full(instance, request, asked):
    del request, asked
    return problem(503, f"{instance.name} has no free slot", {"Retry-After": "7"})


async def unwilling(instance, request, asked):
    del request, asked
    return problem(503, f"{instance.name} does not want it", {"Retry-After": "1"}, CALL_REFUSED)


async def store_away(instance, request, asked):
    del request, asked
    return problem(503, f"{instance.name} cannot reach Redis", {"Retry-After": "1"}, STORE_UNAVAILABLE)


async def conflict(instance, request, asked):
    del instance, request, asked
    return problem(422, "the key was used with another body")


async def silent(instance, request, asked):
    """Break the connection without an answer, as a crash would."""
    del instance, asked
    request.transport.close()
    await asyncio.sleep(0)
    return web.Response()


def problem(status: int, detail: str, headers=None, kind="about:blank") -> web.Response:
    return web.json_response(
        {"title": "x", "status": status, "detail": detail, "type": kind},
        status=status,
        headers=headers,
        content_type="application/problem+json",
    )


def _placed(instance, asked, state, status):
    body = {
        "callId": asked.call_id,
        "sessionId": f"{instance.name}-session",
        "state": state,
        "owner": instance.name if state == "active" else None,
        "fence": 5 if state == "active" else 0,
        "created": status == 201,
    }
    return web.json_response(body, status=status)


@asynccontextmanager
async def pretend_instance(name: str, *answers):
    instance = PretendInstance(name, list(answers))
    async with TestServer(instance.app()) as server:
        instance.address = f"127.0.0.1:{server.port}"
        yield instance
