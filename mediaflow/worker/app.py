"""An instance behind HTTP: calls are placed here by a balancer or by anyone.

HTTP is served from before the instance is registered until after its drain, so that health and reads are
answered all along; what it cannot take is refused with a 503 that says why.
"""

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import click
import msgspec
from aiohttp import web

from mediaflow.api.messages import InstanceView
from mediaflow.api.metadata import Metadata
from mediaflow.runtime.hooks import NO_HOOKS, Hooks
from mediaflow.runtime.instance import Instance
from mediaflow.runtime.oncall import CallRefused
from mediaflow.runtime.placing import Draining, KeyConflict, NoFreeSlot, Placement, QueueFull
from mediaflow.runtime.session import Handler
from mediaflow.settings import Settings
from mediaflow.store import RedisStore, Store
from mediaflow.web import calls, docs, events, health, openapi, placing
from mediaflow.web.express import Answer
from mediaflow.web.placing import Head
from mediaflow.web.problems import CALL_REFUSED, Refusal, of_stream, unavailable
from mediaflow.web.program import (
    EXIT_USAGE,
    Bound,
    Build,
    Program,
    StartError,
    advertised,
    background,
    launch,
    serve,
)
from mediaflow.web.program import (
    command as make_command,
)
from mediaflow.web.surface import Parameter, Surface, json_response
from mediaflow.worker import several
from mediaflow.worker.handlers import AppParameter, LoadedApp, hold, importing, reference_of

NAME = "worker"
_JSON = {"Content-Type": "application/json"}
_PLACEMENT = Parameter(
    placing.PLACEMENT_HEADER,
    "header",
    "slot: take the call only into a free slot, here and now.",
    {"enum": [placing.SLOT_ONLY]},
)

FLAGS = (
    "slots",
    "processes",
    "load_threshold",
    "instance_id",
    "advertise",
    "on_network_partition",
    "admission",
    "max_pending",
    "max_attempts",
    "max_takeovers",
    "accept_ttl",
    "drain",
    "drain_timeout",
    "durability_replicas",
    "stream_limit",
    "count_by",
    "stream_rules",
    "stream_ttl",
    "stream_heartbeat_interval",
    "stream_throttle",
    "readmit",
    "on_store_down",
    "token_key",
)


def surface(instance: Instance, store: Store, settings: Settings, feed: events.EventFeed) -> Surface:
    """Return the HTTP face of an instance."""
    face = Surface(NAME, settings, lambda: _problem(instance), translate)
    face.metrics.gauge("slots", "Sessions that this instance runs at most.", lambda: instance.slots)
    face.metrics.gauge(
        "free_slots",
        "Slots of this instance that a call may take; none while it drains or is out of touch with Redis.",
        lambda: instance.slots - instance.used if instance.ready else 0,
    )
    face.metrics.gauges(
        "sessions",
        "Slots of this instance that are taken: 'starting' (being asked for), 'running', 'stopped' (its coroutine is, "
        "until Redis says whose it is), 'ending' (being completed, given back or handed off).",
        "state",
        instance.sessions,
    )
    face.metrics.gauge(
        "draining",
        "1 while this instance drains, else 0.",
        lambda: float(instance.state == "draining"),
    )
    face.metrics.show(instance.meter.instruments)

    face.metrics.gauge(
        "load",
        "How busy this instance is, from 0 to 1, where its app measures that; else NaN.",
        lambda: math.nan if instance.load is None else instance.load,
    )

    async def place(head: Head, metadata: Metadata) -> Answer:
        answer = await instance.place(
            Placement(
                call_id=head.call_id,
                metadata=metadata.encoded,
                body_digest=metadata.digest,
                idempotency_key=head.idempotency_key,
                slot_only=_slot_only(head.placement),
                account=head.account,
            )
        )
        return Answer(201 if answer.created else 200, _JSON, msgspec.json.encode(answer))

    async def drain(request: web.Request) -> web.Response:
        if calls.instance_id_of(request) != instance.instance_id:
            raise calls.unknown_instance(calls.instance_id_of(request), f"here, but {instance.instance_id}")
        instance.begin_drain("a drain was asked for over HTTP")
        return json_response(_view(instance), 202)

    placing.add_route(face, place, _PLACEMENT)
    face.add(calls.draining_route(drain))
    calls.add_routes(face, store)
    events.add_routes(face, feed)
    health.add_routes(face)
    openapi.add_routes(face)
    docs.add_routes(face)
    return face


def hosting(handler: Handler, hooks: Hooks = NO_HOOKS) -> Build:
    """Return what builds the program around an instance that runs ``handler``."""

    @asynccontextmanager
    async def build(settings: Settings, bound: Bound, store: RedisStore) -> AsyncGenerator[Program]:
        instance = Instance(store, handler, settings, hooks=hooks, address=advertised(settings, bound))
        feed = events.EventFeed(store)
        async with background(feed.run()), instance:
            face = surface(instance, store, settings, feed)
            face.measure(store)
            yield Program(
                app=face.application(),
                problem=lambda: _problem(instance),
                announces=True,
                drain=instance.drain,
                ended=instance.wait_leaving,
                closing=feed.close,
                abort=instance.abort,
            )

    return build


async def run(settings: Settings, *, app: LoadedApp | None = None) -> None:
    """Run the worker, on as many processes as the settings say, until it is told to stop, or superseded.

    Raises:
        StartError: It cannot listen, the namespace has other constants, or other processes cannot import the app.
    """
    app = app or LoadedApp(hold, {})
    if settings.processes == 1:
        await serve(NAME, settings, hosting(app.handler, app.hooks))
        return
    try:
        reference = "" if app.handler is hold else app.reference or reference_of(app.handler, app.hooks)
    except ValueError as error:
        raise StartError(str(error), EXIT_USAGE) from None
    await several.run(settings, reference)


def run_program(handler: Handler, flags: Mapping[str, Any], hooks: Hooks = NO_HOOKS) -> None:
    """Run a worker around ``handler``, with settings from ``flags``, the environment and the settings file.

    Returns when SIGTERM or Ctrl-C drained it.

    Raises:
        SettingsError: A setting is wrong.
        StartError: As :func:`run`.
        RuntimeError: It was called by the import of a module.
    """
    if importing():
        raise RuntimeError('app.run() is called by the import: put it under if __name__ == "__main__"')
    launch(lambda settings: run(settings, app=LoadedApp(handler, {}, hooks)), flags)


def _contribute(*, app: LoadedApp | None) -> Mapping[str, Any]:
    return app.settings_flags if app else {}


APP_OPTION = click.Option(
    ["--app"],
    type=AppParameter(),
    help="A MediaApp or a coroutine function; without it a session runs until its call ends.",
)

command = make_command(
    NAME, run, FLAGS, [APP_OPTION], about="Run sessions in N slots.", contribute=_contribute
)


def _problem(instance: Instance) -> str:
    if instance.state in ("draining", "stopped"):
        return f"the instance {instance.instance_id} is {instance.state}"
    return instance.problem


def _view(instance: Instance) -> InstanceView:
    """Describe an instance that drains."""
    return InstanceView(
        instance_id=instance.instance_id,
        address=instance.address or None,
        slots=instance.slots,
        used=instance.used,
        state="draining",
        heartbeat_age_ms=0,
    )


def _slot_only(given: str | None) -> bool:
    if given not in (None, placing.SLOT_ONLY):
        raise Refusal(
            400, f"{placing.PLACEMENT_HEADER} {given[:40]!r}: use {placing.SLOT_ONLY}, or leave it out"
        )
    return given is not None


def translate(error: Exception) -> Refusal | None:
    """Return what tells of an exception that only an instance raises."""
    match error:
        case NoFreeSlot() | QueueFull() | Draining():
            return unavailable(str(error))
        case CallRefused():
            if error.final:
                return Refusal(403, error.reason, type=CALL_REFUSED)
            return unavailable(error.reason, type=CALL_REFUSED)
        case KeyConflict():
            return Refusal(422, str(error))
        case _:
            return of_stream(error)
