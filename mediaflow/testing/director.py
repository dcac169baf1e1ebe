"""Carries out a plan: clients come, faults strike at their times, and in the end everything heals."""

import asyncio
from typing import Any

from mediaflow.runtime.session import Handler
from mediaflow.testing.cluster import Cluster
from mediaflow.testing.history import Healed
from mediaflow.testing.plan import Plan, PlannedCall, Step
from mediaflow.testing.processes import Process
from mediaflow.testing.wire import Weather

CLIENT_PAUSE_S = 0.5


class Director:
    """Carries out a plan on a cluster."""

    def __init__(self, cluster: Cluster, plan: Plan, handler: Handler) -> None:
        """Nothing is done yet."""
        self._handler = handler
        self._cluster = cluster
        self._plan = plan
        self._snapshots: dict[float, Any] = {}
        self._clients: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Play the whole of it."""
        cluster, plan = self._cluster, self._plan
        cluster.start_balancer()
        for number in range(plan.watchdogs):
            cluster.start_watchdog(f"watchdog{number or ''}")
        for name, slots in plan.hosts.items():
            cluster.start(name, self._handler, slots=slots)
        cluster.network.weather = plan.weather
        if plan.weather != Weather():
            cluster.fault("foul weather")
        async with asyncio.TaskGroup() as clients:
            self._clients = clients
            for call in plan.calls:
                clients.create_task(self._client(call))
            for step in plan.steps:
                await self._until(step.at_s)
                self._do(step)
            await self._until(plan.faults_until_s)
            await self._heal()
            await self._until(plan.faults_until_s + plan.settle_s)

    async def _until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self._cluster.now_s()))

    async def _client(self, call: PlannedCall) -> None:
        await self._until(call.at_s)
        key = f"key-{call.at_s:.6f}"
        while True:
            answered = await self._cluster.submit(call.call_id, call.metadata, key)
            if answered.status in (200, 201, 422):
                break
            await asyncio.sleep(CLIENT_PAUSE_S)
        if call.end_at_s is None:
            return
        await self._until(call.end_at_s)
        while True:
            ended = await self._cluster.end_call(call.call_id)
            if ended.status in (204, 404):
                break
            await asyncio.sleep(CLIENT_PAUSE_S)

    # -- faults -------------------------------------------------------------------------------

    def _do(self, step: Step) -> None:
        cluster, target = self._cluster, step.target
        match step.action:
            case "kill" | "pause" | "resume" | "drain" | "hide" | "show":
                if cluster.hosts[target].alive:
                    getattr(cluster, step.action)(target)
            case "restart":
                # A drain that is under way is cut short: a deployment does not wait for ever.
                cluster.kill(target)
                cluster.start(target)
            case "cut" | "mend" | "slow" | "hasten":
                self._disturb_wire(step)
            case "pause watchdog" | "kill watchdog" | "resume watchdog":
                self._disturb_watchdog(step.action)
            case "ask again":
                self._ask_again(step.how)
            case "kill balancer" | "start balancer":
                self._disturb_balancer(step.action)
            case _:
                self._do_to_redis(step)

    def _do_to_redis(self, step: Step) -> None:
        cluster = self._cluster
        match step.action:
            case "freeze" | "thaw" | "refuse" | "accept" | "empty":
                getattr(cluster, step.action)()
            case "forget scripts":
                cluster.redis.forget_scripts()
            case "snapshot":
                self._snapshots[step.detail] = cluster.redis.engine.snapshot()
            case "roll back":
                cluster.roll_back(self._snapshots[step.at_s], step.detail)
            case "jump":
                cluster.jump(step.detail)
            case _:
                raise ValueError(f"a plan says {step.action!r}, which nobody knows how to do")

    def _ask_again(self, does: str) -> None:
        """Have all clients that have come so far ask for their calls anew, as those do that had no answer.

        What is made anew ``does`` what it used to, unless told otherwise: ``brief`` ends at once.
        """
        now_s = self._cluster.now_s()
        for call in self._plan.calls:
            if call.at_s < now_s and self._clients is not None:
                metadata = {"does": does, "steps": 0} if does else call.metadata
                again = PlannedCall(at_s=now_s, call_id=call.call_id, metadata=metadata)
                self._clients.create_task(self._client(again))

    def _disturb_balancer(self, action: str) -> None:
        front = self._cluster.front
        if front is not None and front.alive and action == "kill balancer":
            front.end()
            self._cluster.fault("balancer killed")
        elif front is None or not front.alive:
            self._cluster.start_balancer()

    def _disturb_wire(self, step: Step) -> None:
        cluster = self._cluster
        process: Process | None = (
            cluster.front
            if step.target == "balancer"
            else cluster.watchers.get(step.target) or cluster.hosts.get(step.target)
        )
        if process is None or not process.alive:
            return
        match step.action:
            case "cut":
                cluster.cut(process, step.how)
            case "slow":
                cluster.slow(process, step.detail, step.how)
            case "mend":
                cluster.mend(process)
            case _:
                cluster.hasten(process)

    def _disturb_watchdog(self, action: str) -> None:
        cluster = self._cluster
        watcher = cluster.watchers["watchdog"]
        if action == "pause watchdog":
            cluster.loop.pause(watcher.node)
            cluster.fault("watchdog paused", watcher.name)
        elif action == "kill watchdog":
            watcher.end()
            cluster.fault("watchdog killed", watcher.name)
        elif not watcher.alive:
            cluster.start_watchdog()
            cluster.fault("watchdog resumed", watcher.name)
        elif watcher.node.state == "paused":
            cluster.fault("watchdog resumed", watcher.name)
            cluster.loop.resume(watcher.node)

    # -- the end ------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """Have nothing go wrong any more: all that was broken is mended, and who was killed comes back."""
        cluster = self._cluster
        cluster.network.weather = Weather()
        cluster.accept()
        cluster.thaw()
        self._disturb_balancer("start balancer")
        self._disturb_watchdog("resume watchdog")
        for process in (*cluster.watchers.values(), *cluster.hosts.values(), cluster.front):
            if process is not None:
                cluster.mend(process)
                cluster.hasten(process)
        for name, host in list(cluster.hosts.items()):
            cluster.resume(name)
            cluster.show(name)
            if not host.alive:
                cluster.start(name)
        cluster.recorder.add(Healed(at_s=cluster.now_s()))
