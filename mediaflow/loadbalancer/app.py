"""The balancer behind HTTP: it places calls, and answers reads from the store as an instance does."""

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web

from mediaflow import console
from mediaflow.api.metadata import Metadata
from mediaflow.loadbalancer.balancer import Balancer
from mediaflow.loadbalancer.courier import Answer, HttpCourier, Request, open_client
from mediaflow.loadbalancer.drainer import Drainer
from mediaflow.loadbalancer.roster import Roster
from mediaflow.runtime.clock import SystemClock
from mediaflow.settings import Settings
from mediaflow.store import RedisStore
from mediaflow.web import calls, docs, events, express, health, openapi, placing
from mediaflow.web.placing import Head
from mediaflow.web.program import Bound, Program, background, serve
from mediaflow.web.program import command as make_command
from mediaflow.web.surface import Surface

NAME = "loadbalancer"

FLAGS = ("admission",)


def surface(
    balancer: Balancer,
    roster: Roster,
    store: RedisStore,
    settings: Settings,
    feed: events.EventFeed,
    drainer: Drainer,
) -> Surface:
    """Return the HTTP face of a balancer."""
    face = Surface(NAME, settings, lambda: roster.problem)
    face.metrics.gauge("instances", "Live instances that take calls.", lambda: len(roster.live()))
    face.metrics.gauge(
        "fleet_slots",
        "Slots of the live instances together.",
        lambda: sum(record.slots for record in roster.live()),
    )
    face.metrics.gauge(
        "fleet_used_slots",
        "Slots of the live instances that were taken at their last heartbeats.",
        lambda: sum(record.used for record in roster.live()),
    )
    face.metrics.gauge(
        "fleet_free_slots",
        "Slots that a new call may find at all live instances, minus what is on its way there.",
        roster.free,
    )
    face.metrics.gauge(
        "fleet_renewals_per_second",
        "Leases that all instances, draining ones included, renewed a second: what each measured over some five "
        "seconds before its last heartbeat.",
        roster.renewals_per_s,
    )
    face.metrics.show(balancer.meter.instruments)

    async def place(head: Head, metadata: Metadata) -> express.Answer:
        request = Request(head.call_id, metadata.encoded, head.idempotency_key, head.account)
        return _pass_on(await balancer.place(request))

    async def drain(request: web.Request) -> web.Response:
        status, headers, body = _pass_on(await drainer.drain(calls.instance_id_of(request)))
        return web.Response(status=status, headers=headers, body=body)

    placing.add_route(face, place)
    face.add(calls.draining_route(drain))
    calls.add_routes(face, store)
    events.add_routes(face, feed)
    health.add_routes(face)
    openapi.add_routes(face)
    docs.add_routes(face)
    console.add_routes(face, store)
    return face


@asynccontextmanager
async def build(settings: Settings, bound: Bound, store: RedisStore) -> AsyncGenerator[Program]:
    """Build the program around a roster and a client."""
    del bound
    # Which instance is asked first is no secret.
    roster = Roster(store, SystemClock(), random.Random())  # noqa: S311
    feed = events.EventFeed(store)
    async with open_client() as client, background(roster.run(), feed.run()):
        courier = HttpCourier(client, settings.api_token)
        balancer = Balancer(roster, courier, settings.admission)
        face = surface(balancer, roster, store, settings, feed, Drainer(store, courier))
        face.measure(store)
        yield Program(
            app=face.application(),
            problem=lambda: roster.problem,
            closing=feed.close,
        )


async def run(settings: Settings) -> None:
    """Run the balancer until it is told to stop."""
    await serve(NAME, settings, build)


command = make_command(NAME, run, FLAGS, about="Place calls on instances, by free slots.")


def _pass_on(answer: Answer) -> express.Answer:
    headers = {"Content-Type": answer.content_type}
    if answer.retry_after is not None:
        headers["Retry-After"] = answer.retry_after
    return express.Answer(answer.status, headers, answer.body)
