"""What a Redis says of itself and how it behaves, as plain findings; what they mean is judged elsewhere.

Nothing is changed but for a rehearsal in a corner of its own; see :mod:`mediaflow.store.rehearsal`. What cannot be
found out is None, or named among the failures: a provider may hide CONFIG, fakeredis has no INFO.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from mediaflow.settings import Settings, SettingsError
from mediaflow.store import scripts
from mediaflow.store.address import IllegalRedisUrl, hide_password, open_link
from mediaflow.store.ask import UNREACHABLE, Asker
from mediaflow.store.keys import Keyspace
from mediaflow.store.link import Link, Primary
from mediaflow.store.part import text
from mediaflow.store.records import StoreError
from mediaflow.store.rehearsal import Rehearsal

ROUND_TRIPS = 100
_REACH_S = 5.0
_ANSWER_S = 2.0
_MESSAGE_S = 2.0

Topology = Literal["single", "sentinel", "cluster", "memory"]


class Node(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One primary, by what INFO, TIME and CONFIG say; ``settings`` is None where CONFIG may not be read.

    ``clock_ahead_ms``: of this host's clock, give or take ``clock_error_ms``.
    """

    name: str
    info: dict[str, Any]
    settings: dict[str, str] | None
    clock_ahead_ms: float
    clock_error_ms: float


class Findings(msgspec.Struct, kw_only=True, rename="camel"):
    """All that was found.

    Attributes:
        address: The URL without its password.
        unreachable: Why it could not be reached; with it, nothing else is set.
        partitions: With which the namespace was first used; 0 if it never was.
        round_trips_ms: How long each PING took.
        slots_covered: Of Redis Cluster's 16384 hash slots; None elsewhere.
        unloadable: Scripts that a primary did not take, with the reason.
        rehearsal: What went wrong with the life of a call; empty if nothing did.
        message_ms: How long a message took from publisher to subscriber; None if it did not come.
        deaf: Why it did not come.
    """

    address: str
    topology: Topology
    unreachable: str = ""
    nodes: list[Node] = msgspec.field(default_factory=list[Node])
    partitions: int = 0
    round_trips_ms: list[float] = msgspec.field(default_factory=list[float])
    slots_covered: int | None = None
    scripts: int = 0
    unloadable: list[str] = msgspec.field(default_factory=list[str])
    rehearsal: str = ""
    message_ms: float | None = None
    deaf: str = ""


async def examine(
    settings: Settings, wall_ms: Callable[[], int], told: Callable[[str], None] = lambda _: None
) -> Findings:
    """Examine the Redis that the settings name.

    Args:
        settings: Name Redis and the namespace.
        wall_ms: This host's clock.
        told: Called with what is looked at next, for whoever waits.

    Raises:
        SettingsError: ``redis_url`` cannot be understood.
    """
    findings = Findings(address=hide_password(settings.redis_url), topology=_topology(settings.redis_url))
    try:
        link = open_link(settings.redis_url)
    except IllegalRedisUrl as error:
        raise SettingsError(str(error)) from None
    try:
        told("reaching Redis")
        await Asker(link).until(link.ping, operation="ping", timeout_s=_REACH_S)
        await _Examiner(link, settings, findings, wall_ms).run(told)
    except StoreError as error:
        findings.unreachable = str(error)
    finally:
        await link.close()
    return findings


def _topology(url: str) -> Topology:
    scheme = url.partition("://")[0]
    kinds: Mapping[str, Topology] = {"sentinel": "sentinel", "cluster": "cluster"}
    return "memory" if scheme == "memory" else kinds.get(scheme.partition("+")[2], "single")


class _Examiner:
    """Carries out one examination after the other."""

    def __init__(
        self, link: Link, settings: Settings, findings: Findings, wall_ms: Callable[[], int]
    ) -> None:
        self._link = link
        self._settings = settings
        self._findings = findings
        self._wall_ms = wall_ms
        self._asker = Asker(link)
        self._token = secrets.token_hex(4)

    async def run(self, told: Callable[[str], None]) -> None:
        for what, look in (
            ("its settings", self._look_at_nodes),
            ("the hash slots", self._look_at_slots),
            ("the namespace", self._look_at_namespace),
            ("round trips", self._time_round_trips),
            ("the scripts", self._load_scripts),
            ("the life of a call", self._rehearse),
            ("messages", self._send_message),
        ):
            told(what)
            await look()

    async def _ask(self, primary: Primary, *command: Any) -> Any:
        """Ask one primary, once.

        Raises:
            redis-py's exceptions, TimeoutError.
        """
        async with asyncio.timeout(_ANSWER_S):
            return await primary.command(*command)

    async def _look_at_nodes(self) -> None:
        if self._findings.topology == "memory":
            return
        for primary in self._link.primaries():
            info: Any = {}
            with contextlib.suppress(*UNREACHABLE):
                info = await self._ask(primary, "INFO")
            ahead_ms, error_ms = await self._compare_clocks(primary)
            self._findings.nodes.append(
                Node(
                    name=primary.name or "redis",
                    info={str(key): value for key, value in info.items()},
                    settings=await self._read_config(primary),
                    clock_ahead_ms=ahead_ms,
                    clock_error_ms=error_ms,
                )
            )

    async def _compare_clocks(self, primary: Primary) -> tuple[float, float]:
        """Return how far its clock is ahead of ours, and how wrong that may be: the best of three looks."""
        looks: list[tuple[float, float]] = []
        for _ in range(3):
            with contextlib.suppress(*UNREACHABLE):
                before_ms = self._wall_ms()
                seconds, micros = await self._ask(primary, "TIME")
                after_ms = self._wall_ms()
                theirs_ms = int(seconds) * 1000 + int(micros) / 1000
                looks.append((theirs_ms - (before_ms + after_ms) / 2, (after_ms - before_ms) / 2 + 1))
        return min(looks, key=lambda look: look[1], default=(0.0, 0.0))

    async def _read_config(self, primary: Primary) -> dict[str, str] | None:
        found: dict[str, str] = {}
        for name in ("save", "appendfsync", "min-replicas-to-write"):
            try:
                reply = await self._ask(primary, "CONFIG GET", name)
            except UNREACHABLE:
                return None
            found[name] = next((text(value) for key, value in reply.items() if text(key) == name), "")
        return found

    async def _look_at_slots(self) -> None:
        if self._findings.topology != "cluster":
            return
        covered: list[int] = []
        for primary in self._link.primaries():
            with contextlib.suppress(*UNREACHABLE):
                reply = await self._ask(primary, "CLUSTER INFO")
                covered.append(int(reply["cluster_slots_ok"]))
        self._findings.slots_covered = min(covered, default=0)

    async def _look_at_namespace(self) -> None:
        constants = Keyspace(self._settings.namespace, self._settings.partitions).constants
        with contextlib.suppress(StoreError):
            (found,) = await self._asker.commands([("HMGET", constants, "partitions")], timeout_s=_ANSWER_S)
            self._findings.partitions = int(found[0] or 0)

    async def _time_round_trips(self) -> None:
        primaries = self._link.primaries()
        for number in range(ROUND_TRIPS):
            began_s = time.perf_counter()
            try:
                await self._ask(primaries[number % len(primaries)], "PING")
            except UNREACHABLE:
                return
            self._findings.round_trips_ms.append((time.perf_counter() - began_s) * 1000)

    async def _load_scripts(self) -> None:
        flags = self._link.server.knows_flags
        for name in scripts.names():
            self._findings.scripts += 1
            for primary in self._link.primaries():
                try:
                    await self._ask(primary, "SCRIPT LOAD", scripts.load(name).text(flags=flags))
                except UNREACHABLE as error:
                    self._findings.unloadable.append(f"{name}: {str(error)[:200] or 'no answer in time'}")
                    break

    async def _rehearse(self) -> None:
        self._findings.rehearsal = await Rehearsal(self._link, self._settings, self._token).play(
            self._wall_ms()
        )

    async def _send_message(self) -> None:
        channel = f"{Keyspace(self._settings.namespace, 1).inbox_prefix}doctor-{self._token}"
        pubsub: Any = None
        try:
            async with asyncio.timeout(_MESSAGE_S):
                pubsub = self._link.pubsub()
                await pubsub.subscribe(channel)
                await _message(pubsub, "subscribe")
                began_s = time.perf_counter()
                await self._asker.commands([("PUBLISH", channel, self._token)], timeout_s=_MESSAGE_S)
                await _message(pubsub, "message")
                self._findings.message_ms = (time.perf_counter() - began_s) * 1000
        except (*UNREACHABLE, StoreError) as error:
            self._findings.deaf = str(error) or f"nothing came within {_MESSAGE_S:g} s"
        finally:
            if pubsub is not None:
                with contextlib.suppress(*UNREACHABLE):
                    await pubsub.aclose()


async def _message(pubsub: Any, kind: str) -> None:
    """Wait for a message of a kind; the caller's deadline bounds it."""
    while True:
        message = await pubsub.get_message(timeout=0.5)
        if message is not None and message["type"] == kind:
            return
