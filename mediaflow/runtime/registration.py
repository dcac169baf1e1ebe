"""An instance's place in the registry: who it is, and the heartbeat that says so."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Callable
from importlib import metadata
from typing import Any, Literal, NamedTuple

import structlog

from mediaflow.core import names
from mediaflow.runtime.clock import Clock
from mediaflow.settings import Settings
from mediaflow.store import InstanceReport, Owner, Store, StoreError

log: Any = structlog.get_logger("mediaflow.instance")

VERSION = metadata.version("mediaflow")

HEARTBEAT_INTERVAL_S = 1.0
GATHER_S = 0.01
"""What changes within a moment goes out with one heartbeat."""

STORE_TIMEOUT_S = 2.0

ANNOUNCE_TIMEOUT_S = 0.5

State = Literal["starting", "ready", "draining", "stopped"]


class Room(NamedTuple):
    """What each heartbeat says of an instance's room and work; see :class:`~mediaflow.store.InstanceReport`."""

    slots: int
    used: int
    load: float | None = None
    overloaded: bool = False
    renewals_per_s: float = 0.0


class Registration:
    """Registers an instance and keeps it registered.

    Attributes:
        state: ``starting`` until Redis knows the instance; the rest is set by the instance.
        incarnation: Which process of this id it is, by Redis's count; 0 until Redis gave one.
        address: ``host:port`` at which others reach the instance; empty when embedded.
        problem: Why it is out of touch with Redis, empty if it is not.
        registered: Set once Redis knows the instance.
    """

    def __init__(
        self, store: Store, settings: Settings, address: str, clock: Clock, randomness: random.Random
    ) -> None:
        """Choose a name and a rank; both are fixed from here on."""
        self.instance_id = settings.instance_id or default_id(randomness)
        self._started_at_ms = clock.wall_ms()
        self.rank = names.rank(self._started_at_ms, self.instance_id)
        self.incarnation = 0
        self._owner = Owner(self.instance_id, 0, self.rank)
        self.state: State = "starting"
        self.problem = "has not reached Redis yet"
        self.address = address
        self._store = store
        self._token = f"{randomness.getrandbits(64):016x}"
        self.registered = asyncio.Event()
        self._due = asyncio.Event()
        self._talking = asyncio.Lock()

    @property
    def owner(self) -> Owner:
        """The instance as the owner of sessions; the same object for as long as it is the same incarnation."""
        if self._owner.incarnation != self.incarnation:
            self._owner = Owner(self.instance_id, self.incarnation, self.rank)
        return self._owner

    @property
    def why_not_ready(self) -> str:
        """Why the instance is not ready, in a line; empty if it is."""
        if self.state in ("draining", "stopped"):
            return f"instance {self.instance_id} is {self.state}"
        return f"instance {self.instance_id} {self.problem}" if self.problem else ""

    def changed(self) -> None:
        """Have a heartbeat sent at once: slots or state are not what the last one said."""
        self._due.set()

    async def keep(self, room: Callable[[], Room], on_superseded: Callable[[], None]) -> None:
        """Send heartbeats until the instance has stopped."""
        while True:
            self._due.clear()
            async with self._talking:
                if self.state == "stopped":
                    return  # it left meanwhile: a heartbeat would register it again
                await self._beat(room(), on_superseded)
            try:
                async with asyncio.timeout(HEARTBEAT_INTERVAL_S):
                    await self._due.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(GATHER_S)

    async def announce_drain(self, room: Callable[[], Room]) -> None:
        """Drain from now on, and wait a moment for Redis to know it.

        The sessions that are given away next would else be given back, and wait for an acceptance in vain.
        """
        self.state = "draining"
        log.info("instance.draining", instance=self.instance_id, sessions=room().used)
        if not self.incarnation or self.problem:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANNOUNCE_TIMEOUT_S), self._talking:
                await self._beat(room(), lambda: None)

    async def leave(self, reason: str) -> None:
        """Strike the instance off; if Redis does not answer, the heartbeat's expiry does it later."""
        if not self.incarnation:
            return
        try:
            async with asyncio.timeout(2 * STORE_TIMEOUT_S), self._talking:
                self.state = "stopped"
                await self._store.leave(self.instance_id, self.incarnation, reason, timeout_s=STORE_TIMEOUT_S)
                log.info("instance.left", instance=self.instance_id, reason=reason)
        except (StoreError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            log.warning("instance.left_without_goodbye", instance=self.instance_id, reason=reason)

    async def _beat(self, room: Room, on_superseded: Callable[[], None]) -> None:
        report = InstanceReport(
            instance_id=self.instance_id,
            token=self._token,
            incarnation=self.incarnation,
            rank=self.rank,
            address=self.address,
            slots=room.slots,
            used=room.used,
            state="draining" if self.state == "draining" else "ready",
            version=VERSION,
            started_at_ms=self._started_at_ms,
            load=room.load,
            overloaded=room.overloaded,
            renewals_per_s=room.renewals_per_s,
        )
        try:
            # Finds out in good time that the server is another one, or has lost the namespace's constants.
            await self._store.check(timeout_s=STORE_TIMEOUT_S)
            beat = await self._store.heartbeat(report, timeout_s=STORE_TIMEOUT_S)
        except StoreError as error:
            self._note(str(error))
            return
        self._note("")
        if beat.status == "superseded":
            on_superseded()
            return
        self.incarnation = beat.incarnation
        if self.state == "starting":
            self.state = "ready"
            self.registered.set()
            log.info(
                "instance.joined",
                instance=self.instance_id,
                incarnation=self.incarnation,
                address=self.address,
                slots=room.slots,
            )

    def _note(self, problem: str) -> None:
        """Keep why Redis is out of reach; said once when it begins, and once when it is over."""
        begins = problem and not self.problem.startswith("cannot")
        if begins:
            log.warning("instance.cut_off", instance=self.instance_id, reason=problem)
        elif not problem and self.problem.startswith("cannot"):
            log.info("instance.connected", instance=self.instance_id)
        self.problem = f"cannot reach its store: {problem}" if problem else ""


def default_id(randomness: random.Random) -> str:
    """Return a name for an instance that was given none: of host, process and chance."""
    host = "".join(c if c.isalnum() or c in "-." else "-" for c in socket.gethostname() if c.isascii())[:40]
    return f"{host or 'instance'}-{os.getpid()}-{randomness.getrandbits(24):06x}"
