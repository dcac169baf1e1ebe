"""`mediaflow up`: choose a store, run the programs on it, tell what happens, stop in order."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from contextlib import AsyncExitStack

import msgspec

from mediaflow.processes.restarts import Restarts, describe_end
from mediaflow.settings import Settings
from mediaflow.store import NamespaceMismatch, Store, StoreError, StoreUnavailable, open_store
from mediaflow.store.embedded import (
    EmbeddedStore,
    EmbeddedStoreError,
    describe_search,
    find_server,
    free_port,
)
from mediaflow.supervisor.chronicle import Chronicle
from mediaflow.supervisor.demo import Demo, DemoOptions
from mediaflow.supervisor.fleet import BAD, GOOD, ODD, Fleet, ProcessFleet
from mediaflow.supervisor.plan import Plan, worker_names
from mediaflow.supervisor.screen import Screen
from mediaflow.supervisor.together import LocalFleet
from mediaflow.web.hosting import StartError

DEFAULT_PORT = 8080
DEFAULT_STREAMS_PORT = 8090
IN_PROCESS = "memory://"
FORCED = 130
_EVENTS_INTERVAL_S = 0.2
_STORE_CHECK_S = 2.0


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for.

    Attributes:
        settings: Of all programs; its ``redis_url`` counts only with ``own_redis``.
        own_redis: The user named a Redis.
        demo: Run the demo.
    """

    settings: Settings
    own_redis: bool
    workers: int
    app: str = ""
    demo: DemoOptions | None = None


class Interrupts:
    """Ctrl-C and SIGTERM: the first stops in order, the second at once, the third without looking back.

    Attributes:
        nothing_to_end: There are no other processes, so the second may be as the third.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.forced = False
        self.nothing_to_end = False
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self.forced or (self.stop.is_set() and self.nothing_to_end):
            os._exit(FORCED)
        self.forced = self.stop.is_set()
        self.stop.set()
        if self.forced and self._main is not None:
            self._main.cancel()


async def run(options: UpOptions, screen: Screen) -> int:
    """Run until Ctrl-C, SIGTERM, the end of the demo or of hope; return the exit status.

    Raises:
        StartError: It cannot start.
    """
    interrupts = Interrupts()
    try:
        return await _run(options, screen, interrupts)
    except asyncio.CancelledError:
        if not interrupts.forced:
            raise
        screen.plain("stopped at once")
        return FORCED


async def _run(options: UpOptions, screen: Screen, interrupts: Interrupts) -> int:
    port = _choose_port(options.settings)
    async with AsyncExitStack() as stack:
        embedded, url = await _choose_store(options, screen, stack)
        # Addresses and names are given to each program; one that was set cannot hold for all of them.
        settings = msgspec.structs.replace(
            options.settings, redis_url=url, advertise="", instance_id="", port=None
        )
        store = await open_store(settings)
        stack.push_async_callback(store.close)
        await _check(store, url)
        in_process = url.startswith(IN_PROCESS)
        names = worker_names(options.workers, shared_store=options.own_redis and not in_process)
        plan = Plan(
            settings=settings,
            port=port,
            streams_port=_choose_streams_port(options.settings, port),
            workers=names,
            app=options.app,
        )
        chronicle = Chronicle(frozenset(names))
        interrupts.nothing_to_end = in_process
        fleet_kind = LocalFleet if in_process else ProcessFleet
        fleet = fleet_kind(plan, screen, chronicle)
        narrator = Narrator(store, chronicle, screen)
        await narrator.begin()
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(narrator.run())
            keeping = [tasks.create_task(_keep_store(embedded, screen, interrupts))] if embedded else []
            fleet.start(tasks)
            well = await _serve(
                options, plan, fleet, screen=screen, chronicle=chronicle, interrupts=interrupts
            )
            # That calls find no owner while all workers drain is what was asked for, and no news.
            telling.cancel()
            screen.event("stopping")
            well = await fleet.stop() and well
            for task in keeping:
                task.cancel()
        screen.event("stopped")
    return 0 if well else 1


async def _serve(
    options: UpOptions,
    plan: Plan,
    fleet: Fleet,
    *,
    screen: Screen,
    chronicle: Chronicle,
    interrupts: Interrupts,
) -> bool:
    """From the start to the wish to stop; False if it did not go well."""
    settled = asyncio.ensure_future(fleet.settled())
    stopped = asyncio.ensure_future(interrupts.stop.wait())
    try:
        await asyncio.wait((settled, stopped), return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            return True
        if not settled.result():
            return False
    finally:
        for wait in (settled, stopped):
            wait.cancel()
        await asyncio.gather(settled, stopped, return_exceptions=True)
    _tell_how_to_use(plan, screen)
    if options.demo is None:
        await interrupts.stop.wait()
        return True
    demo = Demo(options.demo, plan=plan, fleet=fleet, screen=screen, chronicle=chronicle)
    return await demo.run(interrupts.stop)


class Narrator:
    """Reads the store's events and tells those that matter."""

    def __init__(self, store: Store, chronicle: Chronicle, screen: Screen) -> None:
        self._store = store
        self._chronicle = chronicle
        self._screen = screen

    async def begin(self) -> None:
        """Take the place from which on events are read."""
        self._position = await self._store.tail(timeout_s=_STORE_CHECK_S)

    async def run(self) -> None:
        """Read for ever."""
        away = False
        while True:
            try:
                batch = await self._store.events(self._position)
            except StoreError as error:
                if not away:
                    self._screen.event(f"the store does not answer: {error}", BAD)
                away = True
                await asyncio.sleep(1)
                continue
            if away:
                self._screen.event("the store answers again", GOOD)
                away = False
            self._position = batch.position
            for event in batch.events:
                self._chronicle.observe(event)
            for line in self._chronicle.due(time.time_ns() // 1_000_000):
                self._screen.event(line, ODD)
            if not batch.events:
                await asyncio.sleep(_EVENTS_INTERVAL_S)


async def _choose_store(
    options: UpOptions, screen: Screen, stack: AsyncExitStack
) -> tuple[EmbeddedStore | None, str]:
    """Say and return what to use: a store of our own, and the address of whichever it is."""
    if options.own_redis:
        url = options.settings.redis_url
        screen.event(f"store: {_without_password(url)}, as you asked")
        return None, url
    binary = find_server()
    if binary is None:
        screen.event(f"store: inside this process, with all programs ({describe_search()})", ODD)
        return None, IN_PROCESS
    try:
        embedded = await stack.enter_async_context(EmbeddedStore(binary))
    except EmbeddedStoreError as error:
        raise StartError(str(error)) from None
    screen.event(f"store: a private {binary} at {embedded.url}; what it holds ends with it")
    return embedded, embedded.url


async def _check(store: Store, url: str) -> None:
    try:
        await store.check(timeout_s=_STORE_CHECK_S)
    except NamespaceMismatch as error:
        raise StartError(str(error), 2) from None
    except StoreUnavailable as error:
        raise StartError(
            f"Redis at {_without_password(url)} cannot be reached: {error}; "
            "start it, or leave --redis out to use a private one"
        ) from None


async def _keep_store(embedded: EmbeddedStore, screen: Screen, interrupts: Interrupts) -> None:
    """Start the private store again when it dies: live calls are put back by their owners (G7)."""
    restarts = Restarts()
    while True:
        began = time.monotonic()
        status = await embedded.wait()
        restarts = restarts.ended(time.monotonic() - began)
        ended = f"the store ended ({describe_end(status)})"
        if restarts.pause_s is None:
            screen.event(f"{ended} again and again; giving up", BAD)
            interrupts.stop.set()
            return
        screen.event(f"{ended}; it is started again, and owners put their calls back", BAD)
        await asyncio.sleep(restarts.pause_s)
        try:
            await embedded.restart()
        except EmbeddedStoreError as error:
            screen.event(str(error), BAD)


def _choose_port(settings: Settings) -> int:
    """Return the balancer's port, which stays the same when it is started again.

    Raises:
        StartError: It is taken.
    """
    port = DEFAULT_PORT if settings.port is None else settings.port
    if port == 0:
        return free_port()
    try:
        _probe(settings.host, port)
    except OSError as error:
        raise StartError(
            f"port {port} of {settings.host} cannot be used ({(error.strerror or str(error)).lower()}): "
            "stop what listens there, or give another with --port N (0 picks a free one)"
        ) from None
    return port


def _choose_streams_port(settings: Settings, taken: int) -> int:
    """Return the concurrency service's port: the usual one if it can be had, else any. Its ready line tells."""
    if settings.port != 0 and taken != DEFAULT_STREAMS_PORT:
        with contextlib.suppress(OSError):
            _probe(settings.host, DEFAULT_STREAMS_PORT)
            return DEFAULT_STREAMS_PORT
    while (port := free_port()) == taken:
        pass
    return port


def _probe(host: str, port: int) -> None:
    """Find out whether a port can be listened on.

    Raises:
        OSError: It cannot.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _tell_how_to_use(plan: Plan, screen: Screen) -> None:
    url = plan.url
    elsewhere = "" if url == f"http://127.0.0.1:{DEFAULT_PORT}" else f" --url {url}"
    token = ' -H "Authorization: Bearer $MEDIAFLOW_API_TOKEN"' if plan.settings.api_token else ""
    redis = plan.settings.redis_url
    where = elsewhere if redis.startswith(IN_PROCESS) else f" --redis {_without_password(redis)}"
    screen.plain()
    screen.plain(f"Everything is ready. See it live: console at {url}/console")
    screen.plain("In another terminal:")
    screen.plain(f"  curl -X POST{token} {url}/calls/my-call")
    screen.plain(f"  mediaflow submit --calls 100 --rate 50{elsewhere}")
    screen.plain(f"  mediaflow status{where}")
    screen.plain(f"  mediaflow top{elsewhere}")
    if not plan.settings.jwt_algorithms:
        device = '\'{"deviceId": "tv"}\''
        screen.plain(f"  curl -d {device}{token} {plan.streams_url}/v1/users/me/streams")
    screen.plain("Ctrl-C stops everything.")
    screen.plain()


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    if not at:
        return url
    scheme, _, secret = head.partition("://")
    user = secret.partition(":")[0]
    return f"{scheme}://{user}:***@{tail}"
