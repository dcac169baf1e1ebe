"""The watchdog as a program: health and metrics over HTTP, and the watch itself beside it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mediaflow.settings import Settings
from mediaflow.store import NamespaceMismatch, RedisStore
from mediaflow.watchdog.watchdog import Watchdog
from mediaflow.web import docs, health, openapi
from mediaflow.web.program import EXIT_USAGE, Bound, Program, StartError, background, serve
from mediaflow.web.program import command as make_command
from mediaflow.web.surface import Surface

NAME = "watchdog"

FLAGS = ("accept_ttl", "max_takeovers")


def surface(watchdog: Watchdog, settings: Settings) -> Surface:
    """Return the HTTP face of a watchdog: it takes no calls."""
    face = Surface(NAME, settings, lambda: watchdog.problem)
    face.metrics.gauges(
        "namespace_sessions",
        "Sessions of the whole namespace at the last tick: 'active' (with a lease, or an assignment to be accepted) "
        "and 'pending'. Every watchdog shows the same.",
        "state",
        lambda: {"active": watchdog.leased, "pending": watchdog.pending},
    )
    face.metrics.gauge(
        "namespace_longest_wait_seconds",
        "How long the longest waiting session that could be assigned had waited at the last tick.",
        lambda: watchdog.longest_wait_s,
    )
    face.metrics.show(watchdog.meter.instruments)
    health.add_routes(face)
    openapi.add_routes(face)
    docs.add_routes(face)
    return face


@asynccontextmanager
async def build(settings: Settings, bound: Bound, store: RedisStore) -> AsyncGenerator[Program]:
    """Build the program around a watchdog."""
    del bound
    watchdog = Watchdog(store, settings)
    async with background(_watch(watchdog)):
        face = surface(watchdog, settings)
        face.measure(store)
        face.metrics.show(store.sweeps.instruments)
        yield Program(app=face.application(), problem=lambda: watchdog.problem)


async def _watch(watchdog: Watchdog) -> None:
    try:
        await watchdog.run()
    except NamespaceMismatch as error:
        raise StartError(str(error), EXIT_USAGE) from None


async def run(settings: Settings) -> None:
    """Run the watchdog until it is told to stop."""
    await serve(NAME, settings, build)


command = make_command(NAME, run, FLAGS, about="Sweep what the dead left, and give pending sessions owners.")
