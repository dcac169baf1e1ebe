"""The life of a program that serves HTTP: listening, ready line, readiness, signals, drain.

:func:`serve` hosts one program until a signal comes or it ends by itself; :func:`hosted` is the same without
signals and output, for several programs in one process. The command line is in :mod:`mediaflow.web.program`.
"""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from aiohttp import web

from mediaflow.settings import WILDCARDS, Settings
from mediaflow.store import NamespaceMismatch, RedisStore, Store, StoreError, StoreUnavailable, open_store
from mediaflow.telemetry import lag, tracing
from mediaflow.web import connections
from mediaflow.web.express import EXPRESS
from mediaflow.web.surface import METRICS

DEFAULT_PORTS: Mapping[str, int] = {
    "loadbalancer": 8080,
    "worker": 8081,
    "watchdog": 8082,
    "concurrency": 8090,
}

EXIT_FAILED = 1
EXIT_USAGE = 2

_READY_WAIT_S = 1.0
_WATCH_INTERVAL_S = 0.1
_SHUTDOWN_TIMEOUT_S = 5.0
_DRAIN_GRACE_S = 10.0

_log = structlog.get_logger(__name__)


class StartError(Exception):
    """A program cannot start; the message is one line for people."""

    def __init__(self, message: str, status: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.status = status


class Bound(NamedTuple):
    """Where a program listens: the host as it was set, and the port that was really bound."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """Return ``host:port``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the URL of the program."""
        return f"http://{self.address}"


async def _never() -> str:
    await asyncio.Event().wait()
    return ""


async def _nothing() -> None:
    return


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a program hands to :func:`serve` once it has been built.

    Attributes:
        app: Serves health at least, from before it is ready until after its drain.
        problem: Says in a line why it is not ready; empty if it is.
        drain: Takes nothing new, finishes or hands off what it has; HTTP is served meanwhile.
        ended: Returns when the program ended by itself, with the reason in a line.
        announces: It logs by itself when it becomes ready, or no longer is.
        closing: Called when HTTP is about to end, so that endless answers can.
        abort: Ends it without a farewell, as a crash of its process would.
    """

    app: web.Application
    problem: Callable[[], str]
    drain: Callable[[], Awaitable[None]] = _nothing
    ended: Callable[[], Awaitable[str]] = _never
    announces: bool = False
    closing: Callable[[], None] = lambda: None
    abort: Callable[[], Awaitable[None]] = _nothing


Build = Callable[[Settings, Bound, RedisStore], AbstractAsyncContextManager[Program]]
"""Given the settings, where the program listens, and a store: a context in which the program lives."""


class Hosted(NamedTuple):
    """A program that is being served; ``unreachable`` is why Redis was not there when it started, or empty."""

    bound: Bound
    program: Program
    unreachable: str


@asynccontextmanager
async def background(*work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run endless coroutines meanwhile; if one fails, the body is cancelled and the failure raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
            yield
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as failures:
        first, *others = failures.exceptions
        if others:
            raise
        # A lone failure goes on as what it is, so that who waits for a StartError finds it.
        raise first from None


@asynccontextmanager
async def hosted(name: str, settings: Settings, build: Build) -> AsyncGenerator[Hosted]:
    """Serve a program until the context is left; it is not drained then.

    Raises:
        StartError: The address cannot be listened on, or the namespace has other constants.
    """
    listener = _listen(settings.host, _port(name, settings))
    with contextlib.closing(listener):
        bound = Bound(settings.host, listener.getsockname()[1])
        store = await open_store(settings)
        try:
            unreachable = await _verify(store)
            async with build(settings, bound, store) as program, _served(program, listener):
                yield Hosted(bound, program, unreachable)
        finally:
            await store.close()


@asynccontextmanager
async def _served(program: Program, listener: socket.socket) -> AsyncGenerator[None]:
    """Answer HTTP on a socket until the context is left."""
    runner = web.AppRunner(program.app, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        assert runner.server is not None
        door = connections.Door(runner.server, connections.most_connections(), program.app.get(EXPRESS))
        # Whoever finds the queue of new connections full asks again after a second, and then after two more.
        listening = await asyncio.get_running_loop().create_server(door, sock=listener, backlog=door.most)
        try:
            yield
        finally:
            program.closing()
            listening.close()
            await door.finished(_SHUTDOWN_TIMEOUT_S)
    finally:
        await runner.cleanup()


async def serve(name: str, settings: Settings, build: Build) -> None:
    """Serve a program until SIGTERM, SIGINT, or its own end; then drain it. A second signal exits at once.

    Args:
        name: As in the command; it stands in the ready line.
        settings: Say where to listen and where Redis is.
        build: Makes the program.

    Raises:
        StartError: As :func:`hosted`.
    """
    tracing.configure(f"mediaflow-{name}")
    stop = Signals()
    try:
        async with hosted(name, settings, build) as (bound, program, unreachable):
            await _settled(program, stop)
            _tune_gc()
            print(f"ready {name} {bound.url}", flush=True)  # noqa: T201 - the ready line of the contract
            log = _log.bind(program=name)
            telling = () if program.announces else (_tell(program.problem, log, unreachable),)
            with lag.watching(program.app[METRICS]):
                async with background(*telling):
                    log.info(await _until_ended(program, stop), step="draining")
                    await _drain(program, settings, log)
            log.info("stopped")
    finally:
        stop.restore()


async def _until_ended(program: Program, stop: "Signals") -> str:
    """Wait for the first of a signal and the program's own end, and say which."""
    waits = {asyncio.ensure_future(stop.received()), asyncio.ensure_future(program.ended())}
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _drain(program: Program, settings: Settings, log: Any) -> None:
    longest_s = _DRAIN_GRACE_S + (settings.drain_timeout if settings.drain == "wait" else 0.0)
    try:
        async with asyncio.timeout(longest_s):
            await program.drain()
    except TimeoutError:
        log.warning("the drain did not end in time; leases take care of what is left", longest_s=longest_s)


async def _settled(program: Program, stop: "Signals") -> None:
    """Wait a moment for readiness, so that in good days the ready line means it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_READY_WAIT_S):
            while program.problem() and not stop.seen:  # noqa: ASYNC110 - nothing signals it
                await asyncio.sleep(0.01)


async def _tell(problem: Callable[[], str], log: Any, at_start: str) -> None:
    """Log each change between ready and not ready, once; ``at_start`` is why it is not ready to begin with."""
    was_ready = not at_start
    if at_start:
        log.warning("not ready", problem=at_start)
    while True:
        if (found := problem()) and was_ready:
            log.warning("not ready", problem=found)
        elif not found and not was_ready:
            log.info("ready")
        was_ready = not found
        await asyncio.sleep(_WATCH_INTERVAL_S)


async def _verify(store: Store) -> str:
    """Refuse a namespace with other constants now; a Redis that is away is waited for while serving.

    Returns why Redis cannot be reached, empty if it can.
    """
    try:
        await store.check()
    except NamespaceMismatch as error:
        raise StartError(str(error), EXIT_USAGE) from None
    except StoreUnavailable as error:
        return str(error)
    except StoreError as error:  # a key of ours holds what is not ours, and waiting does not change that
        raise StartError(str(error)) from None
    return ""


def _port(name: str, settings: Settings) -> int:
    return DEFAULT_PORTS[name] if settings.port is None else settings.port


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise StartError(f"host {host!r} is not an address to listen on: {_reason(error)}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        advice = (
            "choose another --port, or 0 for a free one"
            if error.errno in (errno.EADDRINUSE, errno.EACCES)
            else "give an address of this machine as --host"
        )
        raise StartError(f"cannot listen on {host}:{port}: {_reason(error)}; {advice}") from None
    return listener


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _tune_gc() -> None:
    # What is alive at the start stays: leave it out of every collection. The tail of the latency is
    # mostly collections, so they are made rarer.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def advertised(settings: Settings, bound: Bound) -> str:
    """Return the address at which others reach an instance.

    Raises:
        StartError: It listens on a wildcard, and nothing else was given.
    """
    if settings.advertise:
        return settings.advertise
    if settings.host in WILDCARDS:
        raise StartError(
            f"host = {settings.host!r} is a wildcard, which others cannot reach: give --advertise host:port",
            EXIT_USAGE,
        )
    return bound.address


class Signals:
    """SIGTERM and SIGINT: the first is told, the second ends the process."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = asyncio.Event()
        self._name = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal, number)

    @property
    def seen(self) -> bool:
        """Whether the first has come."""
        return self._received.is_set()

    async def received(self) -> str:
        """Return when the first has come, and say which."""
        await self._received.wait()
        return f"{self._name} received"

    def restore(self) -> None:
        """Leave signals to whoever had them before."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.seen:
            os._exit(128 + number)
        self._name = number.name
        self._received.set()
