"""What `mediaflow up` was asked to run."""

import os
import re
import socket
import sys
from collections.abc import Mapping

import msgspec

from mediaflow.processes.environment import environment
from mediaflow.settings import WILDCARDS, Settings, env_name

BALANCER = "balancer"
WATCHDOG = "watchdog"
CONCURRENCY = "concurrency"

_ON_THE_COMMAND_LINE = frozenset({"host", "port", "instance_id", "advertise"})
_LOCAL = ("--host", "127.0.0.1", "--port", "0")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Programs to run, and how.

    Attributes:
        settings: Of all programs; ``redis_url`` names the store that was chosen.
        port: Of the balancer.
        streams_port: Of the concurrency service.
        workers: Instance ids.
        app: ``module:attr`` for the workers; empty runs a session until its call is ended.
    """

    settings: Settings
    port: int
    streams_port: int
    workers: tuple[str, ...]
    app: str = ""

    @property
    def talkative(self) -> bool:
        """Show all that the programs say."""
        return self.settings.log_level == "debug"

    @property
    def url(self) -> str:
        """The balancer's address, as this machine reaches it."""
        return self._url(self.port)

    @property
    def streams_url(self) -> str:
        """The concurrency service's address, likewise."""
        return self._url(self.streams_port)

    def _url(self, port: int) -> str:
        host = self.settings.host
        if host in WILDCARDS:
            host = "127.0.0.1"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def environment(self, outer: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the child processes."""
        kept = environment(self.settings, outer, _ON_THE_COMMAND_LINE)
        kept[env_name("log_format")] = "json"
        kept[env_name("log_level")] = "debug" if self.talkative else "warning"
        return kept

    def commands(self) -> dict[str, list[str]]:
        """Return the command of each program by name: the balancer, the watchdog, then the workers."""
        commands = {
            BALANCER: _module("loadbalancer", "--host", self.settings.host, "--port", str(self.port)),
            WATCHDOG: _module("watchdog", *_LOCAL),
            CONCURRENCY: _module(
                "concurrency", "--host", self.settings.host, "--port", str(self.streams_port)
            ),
        }
        app = ["--app", self.app] if self.app else []
        for name in self.workers:
            commands[name] = _module("worker", *_LOCAL, "--instance-id", name, "--processes", "1", *app)
        return commands


def worker_names(number: int, *, shared_store: bool) -> tuple[str, ...]:
    """Name the workers; in a store that others use too, so that no other supervisor's have the same names."""
    prefix = (
        f"{re.sub(r'[^A-Za-z0-9.-]', '-', socket.gethostname())[:32]}-{os.getpid()}-" if shared_store else ""
    )
    return tuple(f"{prefix}worker-{i}" for i in range(1, number + 1))


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"mediaflow.{name}", *arguments]
