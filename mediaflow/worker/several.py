"""A worker on several cores: an instance in each of K processes, and this process over them.

A handler that keeps its event loop busy delays the renewals of its own process only. For everybody else the
processes are K workers: each has its name, address, slots, health and metrics, and dies alone. This process
starts them, starts again what dies, tells where each serves, and hands signals on. It serves nothing itself.

Invariant: children do not outlive it, where the kernel can see to that (Linux).
"""

import asyncio
import os
import random
import sys

import msgspec
import structlog

from mediaflow.processes.child import Child, End
from mediaflow.processes.environment import environment
from mediaflow.processes.restarts import describe_end
from mediaflow.runtime.registration import default_id
from mediaflow.settings import Settings, SettingsError
from mediaflow.web.hosting import (
    DEFAULT_PORTS,
    EXIT_FAILED,
    EXIT_USAGE,
    Bound,
    Signals,
    StartError,
    advertised,
)

NAME = "worker"
DRAIN_GRACE_S = 20.0
"""How long a process may take to end after SIGTERM, beyond the drain time that was set: more than it allows itself."""

START_WITHIN_S = 300.0
"""An app may load a model before it serves."""

_HIGHEST_PORT = 65535

_log = structlog.get_logger(__name__)


def split(settings: Settings, instance_id: str) -> list[Settings]:
    """Return the settings of each process: names count from 1, ports from the one that was given.

    Args:
        settings: Of the worker as a whole.
        instance_id: What the names begin with.

    Raises:
        SettingsError: Not every process can have a port, an address or a name of its own.
    """
    port = DEFAULT_PORTS[NAME] if settings.port is None else settings.port
    host, _, outer = settings.advertise.rpartition(":")
    if settings.advertise and not port:
        raise SettingsError(
            f"advertise = {settings.advertise!r} counts up with the port, and port = 0 picks any: give --port as well"
        )
    for name, first in (("port", port), ("advertise", int(outer or 0))):
        if first + settings.processes - 1 > _HIGHEST_PORT:
            raise SettingsError(
                f"{name} = {getattr(settings, name)!r} leaves no port for each of {settings.processes} processes: "
                f"the last one is {_HIGHEST_PORT}"
            )
    return [
        msgspec.structs.replace(
            settings,
            processes=1,
            instance_id=f"{instance_id}-{index + 1}",
            port=port + index if port else 0,
            advertise=f"{host}:{int(outer) + index}" if outer else "",
        )
        for index in range(settings.processes)
    ]


async def run(settings: Settings, app: str) -> None:
    """Run a worker in each of ``settings.processes`` processes, until a signal came or all have ended well.

    Args:
        settings: Of the worker as a whole.
        app: ``module:attr``; empty runs a session until its call is ended.

    Raises:
        SettingsError: As :func:`split`.
        StartError: A process ended before it served, or did not end in time when it was told to.
    """
    advertised(settings, Bound(settings.host, 0))  # a wildcard is told here once, and not by each process
    parts = split(settings, settings.instance_id or default_id(random.SystemRandom()))
    team = Team(parts, app)
    stop = Signals()
    try:
        async with asyncio.TaskGroup() as tasks:
            team.start(tasks)
            failed = await team.until_over(stop)
            deadline_s = DRAIN_GRACE_S + (settings.drain_timeout if settings.drain == "wait" else 0.0)
            late = await team.stop(deadline_s)
    finally:
        stop.restore()
    if failed is not None:
        raise failed
    if late:
        raise StartError(f"{', '.join(late)} did not end well within {deadline_s:g} s")


class Team:
    """The processes of one worker."""

    def __init__(self, parts: list[Settings], app: str) -> None:
        self._children = [
            Child(
                part.instance_id,
                _command(part, app),
                self,
                environment=_environment(part),
                talkative=True,
                steadfast=True,
                ready_within_s=START_WITHIN_S,
            )
            for part in parts
        ]
        self._keeping: list[asyncio.Task[None]] = []
        self._failure: asyncio.Future[StartError] = asyncio.get_running_loop().create_future()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to start all processes."""
        self._keeping = [tasks.create_task(child.keep(), name=child.name) for child in self._children]

    async def until_over(self, stop: Signals) -> StartError | None:
        """Wait for a signal, a process that cannot start (then return why), or the end of all."""
        received = asyncio.ensure_future(stop.received())
        ended = asyncio.ensure_future(asyncio.wait(self._keeping))
        try:
            await asyncio.wait({received, ended, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            if received.done():
                _log.info(received.result(), step="draining", processes=len(self._children))
        finally:
            for wait in (received, ended):
                wait.cancel()
            await asyncio.gather(received, ended, return_exceptions=True)
        return self._failure.result() if self._failure.done() else None

    async def stop(self, deadline_s: float) -> list[str]:
        """Have all drain at once; return the names of those that did not end well."""
        well = await asyncio.gather(*(child.stop(deadline_s) for child in self._children))
        return [child.name for child, fine in zip(self._children, well, strict=True) if not fine]

    # What children report.

    def on_ready(self, child: Child) -> None:
        """Tell where it serves: the ready line of the contract, one for each process."""
        print(f"ready {NAME} {child.url}", flush=True)  # noqa: T201

    def on_end(self, child: Child, end: End) -> None:
        """Tell of an end; one before the first ready line is the end of all."""
        how = describe_end(end.status)
        log = _log.bind(instance=child.name, status=how)
        if end.pause_s is not None:
            log.error("a process died and is started again", pause_s=end.pause_s)
        elif not child.hopeless:
            log.info("a process ended by itself and is not started again")
        elif not self._failure.done():
            status = EXIT_USAGE if end.status == EXIT_USAGE else EXIT_FAILED
            self._failure.set_result(StartError(f"{child.name} ended before it was ready ({how})", status))

    def on_line(self, child: Child, line: str) -> None:
        """Pass on what an app printed."""
        del child
        print(line, flush=True)  # noqa: T201


def _command(part: Settings, app: str) -> list[str]:
    command = [sys.executable, "-m", "mediaflow.worker.process"]
    command += ["--instance-id", part.instance_id, "--port", str(part.port)]
    return [*command, "--app", app] if app else command


def _environment(part: Settings) -> dict[str, str]:
    outer = dict(os.environ)
    # An app that was found beside the script that runs here is to be found there too.
    paths = [path for path in (sys.path[0], outer.get("PYTHONPATH")) if path]
    if paths:
        outer["PYTHONPATH"] = os.pathsep.join(paths)
    return environment(part, outer, {"instance_id", "port"})
