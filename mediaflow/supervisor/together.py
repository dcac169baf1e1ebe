"""All programs of `mediaflow up` in this process, where no server for a private store was found.

Each has its own port and its own way to the store, as if it were a process; killing a worker ends its
instance and its sockets without a farewell. What it cannot show is a process that hangs: all share one loop.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

import msgspec
import structlog
from structlog.typing import EventDict

from mediaflow import concurrency, loadbalancer, watchdog, worker
from mediaflow.processes.child import TOLD_BETTER, in_words
from mediaflow.processes.restarts import FIRST_PAUSE_S
from mediaflow.settings import Settings
from mediaflow.supervisor.chronicle import Chronicle
from mediaflow.supervisor.fleet import BAD, DRAIN_GRACE_S, GOOD, ODD
from mediaflow.supervisor.plan import BALANCER, CONCURRENCY, WATCHDOG, Plan
from mediaflow.supervisor.screen import Screen
from mediaflow.web.hosting import EXIT_USAGE, Build, Hosted, Program, StartError, hosted

_READY_DEADLINE_S = 10.0


class _Part:
    """One program, and the wish to stop or kill it."""

    def __init__(self, name: str, kind: str, settings: Settings, build: Build) -> None:
        self.name = name
        self.kind = kind
        self.settings = settings
        self.build = build
        self.url = ""
        self.killed_at_ms = 0
        self.settled = asyncio.Event()
        self.failed = False
        self.told = asyncio.Event()
        self.stopping = False

    def host(self) -> AbstractAsyncContextManager[Hosted]:
        return hosted(self.kind, self.settings, self.build)


class LocalFleet:
    """Every program a task."""

    def __init__(self, plan: Plan, screen: Screen, chronicle: Chronicle) -> None:
        self._plan = plan
        self._screen = screen
        self._chronicle = chronicle
        self._tasks: dict[str, asyncio.Task[None]] = {}
        _route_logs(screen, talkative=plan.talkative)
        settings = plan.settings
        local = msgspec.structs.replace(settings, host="127.0.0.1", port=0)
        app = _load(plan.app)
        parts = [
            _Part(
                BALANCER,
                "loadbalancer",
                msgspec.structs.replace(settings, port=plan.port),
                loadbalancer.build,
            ),
            _Part(WATCHDOG, "watchdog", local, watchdog.build),
            _Part(
                CONCURRENCY,
                "concurrency",
                msgspec.structs.replace(settings, port=plan.streams_port),
                concurrency.build,
            ),
        ]
        for name in plan.workers:
            own = msgspec.structs.replace(local, instance_id=name)
            parts.append(_Part(name, "worker", own, worker.hosting(app.handler, app.hooks)))
        self._parts = {part.name: part for part in parts}

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start all at once."""
        for part in self._parts.values():
            self._tasks[part.name] = tasks.create_task(self._keep(part), name=part.name)

    async def settled(self) -> bool:
        """Wait until each serves (True), or one could not (False)."""
        for part in self._parts.values():
            await part.settled.wait()
        return not any(part.failed for part in self._parts.values())

    def running(self) -> list[str]:
        """Return the workers that serve now."""
        return [name for name in self._plan.workers if self._parts[name].url]

    def kill(self, worker: str) -> bool:
        """End a worker without a farewell."""
        part = self._parts[worker]
        if not part.url:
            return False
        part.killed_at_ms = time.time_ns() // 1_000_000
        part.url = ""
        part.told.set()
        return True

    async def stop(self) -> bool:
        """Stop workers, then the watchdog, then what takes requests."""
        await self._stop(*self._plan.workers)
        for name in (WATCHDOG, CONCURRENCY, BALANCER):
            await self._stop(name)
        return not any(part.failed for part in self._parts.values())

    async def _stop(self, *names: str) -> None:
        for name in names:
            self._parts[name].stopping = True
            self._parts[name].told.set()
        await asyncio.wait([self._tasks[name] for name in names])

    async def _keep(self, part: _Part) -> None:
        first = True
        while not part.stopping:
            try:
                async with part.host() as (bound, program, _):
                    await _ready(program.problem)
                    part.url = bound.url
                    self._screen.event(f"{part.name} ready {'' if first else 'again '}at {bound.url}", GOOD)
                    first = False
                    part.settled.set()
                    await self._until_told(part, program)
            except StartError as error:
                part.failed = first
                self._screen.event(f"{part.name} cannot start: {error}", BAD)
                part.settled.set()
                if first:
                    return
            part.url = ""
            if part.killed_at_ms:
                part.killed_at_ms = 0
                part.told.clear()
            if part.stopping:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_PAUSE_S):
                    await part.told.wait()

    async def _until_told(self, part: _Part, program: Program) -> None:
        """Wait for the wish to kill or to stop, be it the program's own, and do it."""
        told, ended = asyncio.ensure_future(part.told.wait()), asyncio.ensure_future(program.ended())
        try:
            await asyncio.wait((told, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            ended.cancel()
            await asyncio.gather(told, ended, return_exceptions=True)
        if not part.told.is_set():
            self._screen.event(f"{part.name} leaves ({ended.result()}) and is started again", ODD)
        if part.killed_at_ms:
            self._chronicle.died(part.name, part.killed_at_ms, "killed in this process")
            await program.abort()
            return
        settings = part.settings
        longest_s = DRAIN_GRACE_S + (settings.drain_timeout if settings.drain == "wait" else 0.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await program.drain()


def _load(app: str) -> worker.LoadedApp:
    if not app:
        return worker.LoadedApp(worker.hold, {})
    try:
        return worker.load_app(app)
    except ValueError as error:
        raise StartError(str(error), EXIT_USAGE) from None


async def _ready(problem: Callable[[], str]) -> None:
    """Wait a while until a program is ready; one that is not serves all the same, and says why."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_READY_DEADLINE_S):
            while problem():  # noqa: ASYNC110 - a property of the program, without an event
                await asyncio.sleep(0.01)


def _route_logs(screen: Screen, *, talkative: bool) -> None:
    """Send what the programs log to the screen: beside a live panel nobody else may write to a terminal."""
    least = logging.DEBUG if talkative else logging.WARNING

    def to_screen(_: Any, level: str, event: EventDict) -> NoReturn:
        if talkative or event.get("event") not in TOLD_BETTER:
            screen.event(f"{level}: {in_words(event)}", ODD)
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.processors.format_exc_info, to_screen],
        wrapper_class=structlog.make_filtering_bound_logger(least),
    )

    class ToScreen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            screen.event(f"{record.levelname.lower()}: {record.getMessage()}", ODD)

    root = logging.getLogger()
    root.handlers = [ToScreen()]
    root.setLevel(max(least, logging.INFO))
