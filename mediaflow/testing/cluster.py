"""A whole system in virtual time: Redis, a balancer, watchdogs, instances, and everything that can befall them."""

import asyncio
import random
from typing import Any

import msgspec

from mediaflow.runtime.session import Handler, Session
from mediaflow.settings import Settings
from mediaflow.store.keys import Keyspace
from mediaflow.testing.handlers import Watched
from mediaflow.testing.history import (
    Answered,
    DrainAsked,
    Effect,
    EndAnswered,
    EndAsked,
    Fault,
    FaultKind,
    Joined,
    Left,
    Stopped,
    Submitted,
)
from mediaflow.testing.loop import VirtualLoop
from mediaflow.testing.processes import Addresses, Front, Host, Process, Watcher, ask
from mediaflow.testing.recorder import Recorder
from mediaflow.testing.server import SimulatedRedis
from mediaflow.testing.wire import Network

CLIENT_TIMEOUT_S = 20.0

SETTINGS = Settings(lease_ttl=3.0, accept_ttl=1.0, partitions=2, retention=14_400.0, namespace="sim")


class Cluster:
    """Processes by name, and what may be done to them. Made inside a running :class:`VirtualLoop`.

    Attributes:
        recorder: The history.
        hosts: The instances' newest processes, by instance id.
        redis, network: What they share; ``network.weather`` may be changed at any time.
    """

    def __init__(
        self, loop: VirtualLoop, seed: int, settings: Settings = SETTINGS, engine: str = "subset"
    ) -> None:
        """Prepare a system without any process but Redis."""
        self.loop = loop
        self.settings = settings
        self._seed = seed
        self.redis = SimulatedRedis(loop.time, self._rng("redis"), engine)
        self.network = Network(loop, self.redis, self._rng("network"))
        self.recorder = Recorder(loop, self.redis, Keyspace(settings.namespace, settings.partitions))
        self.hosts: dict[str, Host] = {}
        self.watchers: dict[str, Watcher] = {}
        self.front: Front | None = None
        self._addresses = Addresses()
        self._handlers: dict[str, Handler] = {}
        self._slots: dict[str, int] = {}
        self._requests = 0
        self._drains: set[asyncio.Task[None]] = set()

    # -- processes ----------------------------------------------------------------------------

    def start(self, name: str, handler: Handler | None = None, *, slots: int = 0) -> Host:
        """Start an instance, or start it again as a new process.

        Args:
            name: Its instance id.
            handler: What processes its sessions; what the process before it had, unless given.
            slots: Likewise; 10 for the first.
        """
        self._handlers[name] = handler or self._handlers[name]
        self._slots[name] = slots or self._slots.get(name, 10)
        settings = msgspec.structs.replace(self.settings, instance_id=name, slots=self._slots[name])
        before = self.hosts.get(name)
        number = before.number + 1 if before else 1
        host = Host(self.loop, self.network, name, settings, self._rng(f"{name} {number}"))
        host.number = number
        self.hosts[name] = host
        self._note(Joined(at_s=self.now_s(), instance_id=name, process=number, slots=settings.slots))
        host.watched = Watched(self._handlers[name], self.recorder, host)
        host.start(host.watched, settings)
        self._addresses.listen(host)
        return host

    def start_watchdog(self, name: str = "watchdog") -> Watcher:
        """Start a watchdog, or start it again."""
        watcher = Watcher(self.loop, self.network, name, self.settings, self._rng(f"{name} {self.now_s()}"))
        self.watchers[name] = watcher
        watcher.start(self.settings, self._addresses)
        return watcher

    def start_balancer(self) -> Front:
        """Start the balancer, or start it again."""
        self.front = Front(
            self.loop, self.network, "balancer", self.settings, self._rng(f"front {self.now_s()}")
        )
        self.front.start(self.settings, self._addresses)
        return self.front

    def kill(self, name: str) -> None:
        """End an instance's process, as SIGKILL does."""
        host = self.hosts[name]
        if not host.alive:
            return
        running = list(host.watched.running) if host.watched else []
        host.end()
        self.fault("killed", name)
        for session in running:
            self._note(
                Stopped(
                    at_s=self.now_s(),
                    call_id=session.call_id,
                    session_id=session.id,
                    instance_id=name,
                    incarnation=host.instance.incarnation,
                    reason="killed",
                )
            )
        self._note(Left(at_s=self.now_s(), instance_id=name, process=host.number, reason="killed"))

    def pause(self, name: str) -> None:
        """Give an instance's process no time, as SIGSTOP does."""
        self.loop.pause(self.hosts[name].node)
        self.fault("paused", name)

    def resume(self, name: str) -> None:
        """Let it go on."""
        if self.hosts[name].node.state == "paused":
            self.fault("resumed", name)
            self.loop.resume(self.hosts[name].node)

    def drain(self, name: str) -> None:
        """Have an instance drain and end, as SIGTERM does."""
        host = self.hosts[name]
        self._note(DrainAsked(at_s=self.now_s(), instance_id=name, process=host.number))

        async def drain() -> None:
            await host.instance.drain()
            self._note(Left(at_s=self.now_s(), instance_id=name, process=host.number, reason="drained"))
            host.end()

        self._drains.add(self.loop.spawn(host.node, drain(), f"drain {name}"))

    def cut(self, process: Process, detail: str = "both") -> None:
        """Let nothing through between a process and Redis: ``requests``, ``replies`` or ``both``."""
        process.wire.requests_cut = detail in ("requests", "both")
        process.wire.replies_cut = detail in ("replies", "both")
        self.fault("cut", process.name, detail)

    def mend(self, process: Process) -> None:
        """Let all through again."""
        if process.wire.requests_cut or process.wire.replies_cut:
            process.wire.requests_cut = process.wire.replies_cut = False
            self.fault("mended", process.name)

    def slow(self, process: Process, by_s: float, detail: str = "both") -> None:
        """Have what goes between a process and Redis take longer: ``requests``, ``replies`` or ``both``."""
        process.wire.request_delay_s = by_s if detail in ("requests", "both") else 0.0
        process.wire.reply_delay_s = by_s if detail in ("replies", "both") else 0.0
        self.fault("slowed", process.name, detail)

    def hasten(self, process: Process) -> None:
        """Have it take as long as it used to."""
        if process.wire.request_delay_s or process.wire.reply_delay_s:
            process.wire.request_delay_s = process.wire.reply_delay_s = 0.0
            self.fault("hastened", process.name)

    def hide(self, name: str) -> None:
        """Let nothing through between an instance, and the balancer and the watchdogs."""
        self.hosts[name].reachable = False
        self.fault("unreachable", name)

    def show(self, name: str) -> None:
        """Let all through again."""
        if not self.hosts[name].reachable:
            self.hosts[name].reachable = True
            self.fault("reachable", name)

    # -- Redis --------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Give Redis no time."""
        self.redis.frozen = True
        self.fault("frozen")

    def thaw(self) -> None:
        """Let it go on."""
        if self.redis.frozen:
            self.fault("thawed")
            self.network.thaw()

    def refuse(self) -> None:
        """Stop Redis: connections break, and new ones are refused until it is restarted."""
        self.redis.refusing = True
        self.network.break_all()
        self.fault("stopped")

    def accept(self) -> None:
        """Start it again with what it held, if it was stopped."""
        if self.redis.refusing:
            self._restart(self.redis.engine.snapshot())
            self.fault("restarted")

    def empty(self) -> None:
        """Have Redis restart with nothing."""
        self._restart(None)
        self.fault("emptied")
        self.recorder.look_again("emptied")

    def roll_back(self, contents: Any, lost_s: float) -> None:
        """Have Redis restart with what a snapshot of its engine took down ``lost_s`` ago."""
        self._restart(contents)
        self.fault("rolled back", detail=f"{lost_s:g}")
        self.recorder.look_again("rolled back")

    def jump(self, by_s: float) -> None:
        """Have the clock of Redis' host jump."""
        self.redis.jump(by_s)
        self.fault("clock jumped", detail=f"{by_s:g}")

    def _restart(self, contents: Any) -> None:
        self.redis.frozen = self.redis.refusing = False
        self.redis.restart(contents)
        self.network.break_all()

    # -- clients ------------------------------------------------------------------------------

    async def submit(self, call_id: str, metadata: dict[str, Any] | None = None, key: str = "") -> Answered:
        """Ask the balancer for a call, and return what it answers."""
        self._requests += 1
        number = self._requests
        key = key or f"key-{number}"
        self._note(Submitted(at_s=self.now_s(), request=number, call_id=call_id, key=key))
        body = msgspec.json.encode(metadata or {})
        front = self.front
        answer = None
        if front is not None and front.alive:
            answer = await ask(self.loop, front, lambda: front.place(call_id, body, key), CLIENT_TIMEOUT_S)
        said: dict[str, Any] = {}
        if answer is not None and answer.status in (200, 201):
            said = msgspec.json.decode(answer.body)
        answered = Answered(
            at_s=self.now_s(),
            request=number,
            call_id=call_id,
            status=answer.status if answer else 0,
            session_id=said.get("sessionId", ""),
            state=said.get("state", ""),
            owner=said.get("owner") or "",
            fence=said.get("fence", 0),
            created=said.get("created", False),
        )
        self._note(answered)
        return answered

    async def end_call(self, call_id: str) -> EndAnswered:
        """Ask the balancer to end a call."""
        self._requests += 1
        number = self._requests
        self._note(EndAsked(at_s=self.now_s(), request=number, call_id=call_id))
        front = self.front
        status = None
        if front is not None and front.alive:
            status = await ask(self.loop, front, lambda: front.end_call(call_id), CLIENT_TIMEOUT_S)
        answered = EndAnswered(at_s=self.now_s(), request=number, call_id=call_id, status=status or 0)
        self._note(answered)
        return answered

    # -- what a test asks ---------------------------------------------------------------------

    def running_on(self, call_id: str) -> list[str]:
        """Return the instances on which a handler runs a session of the call right now."""
        return [
            name
            for name, host in self.hosts.items()
            if host.alive
            and host.watched
            and any(session.call_id == call_id for session in host.watched.running)
        ]

    async def until_running(self, call_id: str, within_s: float = 30.0) -> str:
        """Wait until some instance runs the call, and return it.

        Raises:
            TimeoutError: None did within so many virtual seconds.
        """
        async with asyncio.timeout(within_s):
            while not (found := self.running_on(call_id)):  # noqa: ASYNC110 - virtual time costs nothing
                await asyncio.sleep(0.01)
        return found[0]

    def effect(self, session: Session, what: str = "") -> None:
        """Note an effect that a handler has on the world, which it must not have once another owner has started."""
        self._note(
            Effect(
                at_s=self.now_s(),
                call_id=session.call_id,
                session_id=session.id,
                instance_id=session.instance_id,
                fence=session.fence,
                checked=True,
                what=what,
            )
        )

    # -- the history --------------------------------------------------------------------------

    def now_s(self) -> float:
        """Return seconds since the run began."""
        return self.recorder.now_s()

    def fault(self, kind: FaultKind, target: str = "", detail: str = "") -> None:
        """Note what was done."""
        self._note(Fault(at_s=self.now_s(), kind=kind, target=target, detail=detail))

    def _note(self, happening: Any) -> None:
        self.recorder.add(happening)

    def _rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self._seed} {purpose}")  # noqa: S311 - to be repeatable is what it is for
