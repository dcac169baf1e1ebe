"""The processes of a simulated cluster: instances, watchdogs and the balancer, on clocks and stores of their own.

Each is production code, put together as its program does it; what differs is the clock, the client of Redis, and
how the balancer and the watchdog reach an instance.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from mediaflow.api.metadata import encode_metadata
from mediaflow.loadbalancer.balancer import Balancer
from mediaflow.loadbalancer.courier import CONNECT_TIMEOUT_S as HTTP_CONNECT_TIMEOUT_S
from mediaflow.loadbalancer.courier import TRY_TIMEOUT_S, Answer, NoAnswer, NotConnected, Request
from mediaflow.loadbalancer.roster import Roster
from mediaflow.runtime.instance import Instance
from mediaflow.runtime.placing import Placement
from mediaflow.runtime.session import Handler
from mediaflow.settings import Settings
from mediaflow.store import RedisStore
from mediaflow.store.link import Server
from mediaflow.store.single import SingleLink
from mediaflow.testing.handlers import Watched
from mediaflow.testing.loop import VirtualLoop
from mediaflow.testing.server import EPOCH_S
from mediaflow.testing.wire import Network, SimulatedClient, Wire
from mediaflow.watchdog.probe import NobodyListens, NotReached
from mediaflow.watchdog.watchdog import Watchdog
from mediaflow.web import problems
from mediaflow.web.problems import Refusal
from mediaflow.worker.app import translate


class HostClock:
    """The clocks of one host: they start anywhere, and go a little fast or slow."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        """Draw what is wrong with them."""
        self._loop = loop
        self._drift = 1 + rng.uniform(-5e-5, 5e-5)
        self._since_boot_s = rng.uniform(100, 10_000)
        self._wall_offset_s = rng.uniform(-2, 2)

    def monotonic_s(self) -> float:
        """Return seconds since this host was booted."""
        return self._loop.time() * self._drift + self._since_boot_s

    def wall_ms(self) -> int:
        """Return what this host takes for the time."""
        return int((EPOCH_S + self._loop.time() + self._wall_offset_s) * 1000)


class Process:
    """One process: its node, its way to Redis, and when it was killed."""

    def __init__(
        self, loop: VirtualLoop, network: Network, name: str, settings: Settings, rng: random.Random
    ) -> None:
        """Prepare a process; nothing runs yet."""
        self.loop = loop
        self.name = name
        self.node = loop.node(name)
        self.random = rng
        self.clock = HostClock(loop, rng)
        server = Server()
        self.wire = Wire(network, server)
        client: Any = SimulatedClient(self.wire)
        self.store = RedisStore(SingleLink(client, server), settings)
        self.died = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether the process exists, be it paused."""
        return self.node.state != "dead"

    def end(self) -> None:
        """Have it exist no longer."""
        self.loop.kill(self.node)
        self.died.set()


class Watcher(Process):
    """A watchdog's process."""

    def start(self, settings: Settings, addresses: "Addresses") -> None:
        """Begin to watch."""
        self.watchdog = Watchdog(
            self.store, settings, clock=self.clock, random=self.random, probe=SimulatedProbe(addresses)
        )
        self.loop.spawn(self.node, self.watchdog.run(), self.name)


class Front(Process):
    """The balancer's process."""

    def start(self, settings: Settings, addresses: "Addresses") -> None:
        """Begin to take calls."""
        roster = Roster(self.store, self.clock, self.random)
        self.balancer = Balancer(
            roster, SimulatedCourier(self.loop, addresses, self.random), settings.admission
        )
        self.loop.spawn(self.node, roster.run(), self.name)

    async def place(self, call_id: str, metadata: bytes, key: str) -> Answer:
        """Answer ``POST /calls/{callId}``."""
        try:
            return await self.balancer.place(Request(call_id, metadata, key))
        except Refusal as refusal:
            return _refused(refusal)

    async def end_call(self, call_id: str) -> int:
        """Answer ``DELETE /calls/{callId}``, by its status."""
        try:
            return 204 if await self.store.cancel(call_id, "cancelled over HTTP") else 404
        except Exception as error:
            refusal = problems.foreseen(error)
            if refusal is None:
                raise
            return refusal.status


class Host(Process):
    """An instance's process. ``number`` counts the processes under its name, from 1."""

    number = 1
    reachable = True
    slots = 0
    watched: Watched | None = None

    def start(self, handler: Handler, settings: Settings) -> None:
        """Begin to take calls."""
        self.instance = Instance(
            self.store, handler, settings, address=self.name, clock=self.clock, random=self.random
        )
        self.slots = settings.slots
        self.loop.spawn(self.node, self._live(), self.name)

    @property
    def in_service(self) -> bool:
        """Whether it exists and takes calls: neither drained nor superseded."""
        return self.alive and self.instance.state not in ("draining", "stopped")

    async def _live(self) -> None:
        await self.instance.__aenter__()
        await self.instance.wait_stopped()

    async def place(self, request: Request, *, slot_only: bool) -> Answer:
        """Answer ``POST /calls/{callId}`` as the worker's HTTP face does."""
        metadata = encode_metadata(msgspec.json.decode(request.body))
        try:
            answer = await self.instance.place(
                Placement(
                    call_id=request.call_id,
                    metadata=metadata.encoded,
                    body_digest=metadata.digest,
                    idempotency_key=request.idempotency_key,
                    slot_only=slot_only,
                )
            )
        except Exception as error:
            refusal = translate(error) or problems.foreseen(error)
            if refusal is None:
                raise
            return _refused(refusal)
        return Answer(201 if answer.created else 200, msgspec.json.encode(answer), "application/json", None)


def _refused(refusal: Refusal) -> Answer:
    response = problems.answer(refusal)
    body = response.body if isinstance(response.body, bytes) else b""
    return Answer(refusal.status, body, problems.CONTENT_TYPE, response.headers.get("Retry-After"))


class Addresses:
    """Who listens where: an instance's address is its name."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._hosts: dict[str, Host] = {}

    def listen(self, host: Host) -> None:
        """Have a process listen at its address, in place of whoever did."""
        self._hosts[host.name] = host

    def at(self, address: str) -> Host | None:
        """Return who listens there now, None if nobody does."""
        host = self._hosts.get(address)
        return host if host is not None and host.alive and host.instance.state != "stopped" else None

    def host(self, address: str) -> Host | None:
        """Return who listened there last."""
        return self._hosts.get(address)


class SimulatedContact:
    """A connection to a process; it breaks when the process ends."""

    def __init__(self, host: Host) -> None:
        self.address = host.name
        self._host = host

    async def broken(self) -> None:
        """Return when the other side is gone: its host's kernel says so."""
        await self._host.died.wait()

    def close(self) -> None:
        """Give it up."""


class SimulatedProbe:
    """How a watchdog reaches instances."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def reach(self, address: str) -> SimulatedContact:
        """Connect; see :class:`mediaflow.watchdog.probe.Probe`."""
        await asyncio.sleep(0.001)
        known = self._addresses.host(address)
        if known is not None and not known.reachable:
            await asyncio.sleep(1.0)
            raise NotReached(address)
        listening = self._addresses.at(address)
        if listening is None:
            raise NobodyListens(address)
        return SimulatedContact(listening)


class SimulatedCourier:
    """How the balancer asks instances, with the fates that HTTP requests have."""

    def __init__(self, loop: VirtualLoop, addresses: Addresses, rng: random.Random) -> None:
        self._loop = loop
        self._addresses = addresses
        self._random = rng

    async def deliver(self, address: str, request: Request, *, slot_only: bool) -> Answer:
        """Ask one instance; see :class:`mediaflow.loadbalancer.courier.Courier`."""
        host = self._addresses.at(address)
        await asyncio.sleep(self._random.uniform(0.0002, 0.003))
        if host is None or not host.alive:
            raise NotConnected(address)
        if not host.reachable:
            await asyncio.sleep(HTTP_CONNECT_TIMEOUT_S)
            raise NotConnected(address)
        answer = await ask(self._loop, host, lambda: host.place(request, slot_only=slot_only), TRY_TIMEOUT_S)
        if answer is None or not host.reachable:
            raise NoAnswer(address)
        await asyncio.sleep(self._random.uniform(0.0002, 0.003))
        return answer


async def ask(
    loop: VirtualLoop, process: Process, question: Callable[[], Awaitable[Any]], timeout_s: float
) -> Any:
    """Have a process do something, and return what it says; None if it dies or is silent for too long."""

    async def answer() -> Any:
        return await question()

    answering = loop.spawn(process.node, answer(), f"request to {process.name}")
    dying = asyncio.ensure_future(process.died.wait())
    try:
        await asyncio.wait([answering, dying], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        dying.cancel()
    return answering.result() if answering.done() else None
