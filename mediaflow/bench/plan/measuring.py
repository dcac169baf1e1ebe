"""Measures what each step costs, with real programs against a real Redis of their own, within half a minute.

Processor time is what counts, not time that passes: a busy machine makes it no larger. What the programs spend when
nothing is asked of them is measured first and taken off. Each loop is bounded in count and time; on a slow machine
fewer steps are measured, never for longer.
"""

import asyncio
import itertools
import platform
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp

from mediaflow.bench.plan.burden import gathered_in
from mediaflow.bench.plan.costs import Costs
from mediaflow.bench.plan.programs import Programs, Spent, Unmeasurable, programs
from mediaflow.loadbalancer.roster import Roster
from mediaflow.runtime.clock import SystemClock
from mediaflow.store import InstanceReport, RedisStore, open_store
from mediaflow.store.keys import Keyspace
from mediaflow.supervisor.caller import Caller

LEASE_TTL_S = 3.0
"""The shortest: the more renewals, the better they are measured."""

FEW, MANY = 200, 2000
"""Sessions in a worker: two numbers, because renewals that go out together share scripts."""

STREAMS_A_USER = 2
STREAMS = 1000
INSTANCES = 500
WIDTH = 32
"""Requests under way at once."""

IDLE_S = 1.0
HOLD_S = 2.0
STEP_S = 2.5
"""Longest time for one kind of step."""

PATIENCE_S = 90.0

EXPIRY_BYTES = 40
"""What Redis keeps of a key that expires, beside the key: an entry in a table of its own."""

_RENEWED = re.compile(r'^\S*renewals_total\{[^}]*"(?:renewed|refenced)"[^}]*\} (\S+)$', re.MULTILINE)


class _Lap(NamedTuple):
    """What was spent between two moments, what the programs spend anyway taken off."""

    cpu_us: dict[str, float]
    scripts: float
    wire_bytes: float


async def measure(told: Callable[[str, float], None] = lambda _what, _share: None) -> Costs:
    """Measure all unit costs.

    Args:
        told: Hears what is measured now, and which share of all is done.

    Raises:
        Unmeasurable: It cannot be done here.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            told("starting a Redis and the programs", 0.0)
            async with programs(
                lease_ttl=LEASE_TTL_S,
                slots=2 * MANY,
                max_pending=2 * MANY,
                stream_throttle=100_000,
                log_level="warning",
                log_format="json",
            ) as running:
                return await _Measurement(running, told).run()
    except TimeoutError:
        raise Unmeasurable(f"this machine took more than {PATIENCE_S:g} s: give --costs FILE") from None


class _Measurement:
    """One measurement; each part returns costs by name."""

    def __init__(self, running: Programs, told: Callable[[str, float], None]) -> None:
        self._running = running
        self._told = told
        self._keys = Keyspace(running.settings.namespace, running.settings.partitions)
        self._idle_us: dict[str, float] = {}
        self._idle_scripts = 0.0
        self._idle_bytes = 0.0

    async def run(self) -> Costs:
        self._told("what the programs spend when idle", 0.1)
        await self._rest()
        found = await self._calls()
        found |= await self._streams()
        self._told("the registry and the partitions", 0.9)
        await self._running.stop()
        store = await open_store(self._running.settings)
        try:
            found |= await self._registry(store)
            found |= await self._ticks(store)
        finally:
            await store.close()
        self._told("done", 1.0)
        found = {name: max(0.0, round(value, 3)) for name, value in found.items()}
        return Costs(machine=_machine(), **found)

    async def _rest(self) -> None:
        before = await self._running.spent()
        await asyncio.sleep(IDLE_S)
        after = await self._running.spent()
        passed_s = after.at_s - before.at_s
        self._idle_us = {name: (after.cpu_us[name] - before.cpu_us[name]) / passed_s for name in after.cpu_us}
        self._idle_scripts = (after.scripts - before.scripts) / passed_s
        self._idle_bytes = (after.wire_bytes - before.wire_bytes) / passed_s

    async def _lap(self, before: Spent) -> _Lap:
        after = await self._running.spent()
        passed_s = after.at_s - before.at_s
        return _Lap(
            cpu_us={
                name: spent_us - before.cpu_us[name] - self._idle_us.get(name, 0.0) * passed_s
                for name, spent_us in after.cpu_us.items()
            },
            scripts=after.scripts - before.scripts - self._idle_scripts * passed_s,
            wire_bytes=after.wire_bytes - before.wire_bytes - self._idle_bytes * passed_s,
        )

    # -- calls ----------------------------------------------------------------------------------

    async def _calls(self) -> dict[str, float]:
        memory, resident = await self._redis_bytes(), self._running.resident_bytes("worker")
        async with Caller(self._running.url("loadbalancer"), deadline_s=STEP_S) as caller:

            async def place(number: int) -> bool:
                return (await caller.place(f"call-{number}")).accepted

            async def end(number: int) -> bool:
                return await caller.end(f"call-{number}")

            self._told("renewals of a few sessions", 0.2)
            few = await _repeat(FEW, place)
            few_renewals, few_lap = await self._hold()
            self._told("placing calls", 0.3)
            before, renewed = await self._running.spent(), await self._renewed()
            placed = await _repeat(MANY, place, first=FEW)
            start = await self._lap(before)
            start_renewals = await self._renewed() - renewed
            self._told("renewals of many sessions", 0.45)
            many_renewals, many_lap = await self._hold()
            session_bytes = (await self._redis_bytes() - memory) / (few + placed)
            worker_bytes = (self._running.resident_bytes("worker") - resident) / (few + placed)
            self._told("ending calls", 0.55)
            before, renewed = await self._running.spent(), await self._renewed()
            ended = await _repeat(FEW + MANY, end)
            finish = await self._lap(before)
            end_renewals = await self._renewed() - renewed
            ended_bytes = await self._redis_bytes() - memory - (few + placed - ended) * session_bytes

        def each(lap: _Lap, name: str, renewals: float, steps: int) -> float:
            """Take off the renewals that went on meanwhile."""
            return (lap.cpu_us[name] - renewals * many_lap.cpu_us[name] / many_renewals) / steps

        costs = {
            "redis_session_bytes": session_bytes,
            "redis_ended_bytes": ended_bytes / ended,
            "worker_session_bytes": worker_bytes,
            "worker_idle_us": self._idle_us["worker"],
            "renewals_gather_in": gathered_in(
                many_lap.scripts / many_renewals, few + placed, self._running.settings.partitions
            ),
            "renewal_bytes": many_lap.wire_bytes / many_renewals,
        }
        for program, name in (("redis", "redis"), ("worker", "worker"), ("loadbalancer", "balancer")):
            costs[f"{name}_start_us"] = each(start, program, start_renewals, placed)
            costs[f"{name}_end_us"] = each(finish, program, end_renewals, ended)
        for name in ("redis", "worker"):
            costs[f"{name}_script_us"], costs[f"{name}_renew_us"] = _apart(
                (few_lap.scripts, few_renewals, few_lap.cpu_us[name]),
                (many_lap.scripts, many_renewals, many_lap.cpu_us[name]),
            )
        return costs

    async def _hold(self) -> tuple[float, _Lap]:
        """Let the sessions live for a while; returns how many renewals that took, and what they cost."""
        before, renewed = await self._running.spent(), await self._renewed()
        await asyncio.sleep(HOLD_S)
        lap, renewals = await self._lap(before), await self._renewed() - renewed
        if renewals < 1:
            raise Unmeasurable("nothing was renewed: this machine is too busy; give --costs FILE")
        return renewals, lap

    async def _renewed(self) -> float:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self._running.url('worker')}/metrics") as found,
        ):
            return sum(float(number) for number in _RENEWED.findall(await found.text()))

    async def _redis_bytes(self) -> float:
        """Return what the keys take in Redis, its logs of events left out: they are capped, however many sessions.

        Key by key: what Redis uses all told goes up and down with its buffers by more than what is measured.
        """
        redis = self._running.redis
        logs = {self._keys.log(number) for number in range(self._running.settings.partitions + 1)}
        keys = [key async for key in redis.scan_iter(count=1000) if key not in logs]
        total = 0
        for first in range(0, len(keys), 1000):
            pipeline = redis.pipeline(transaction=False)
            for key in keys[first : first + 1000]:
                pipeline.memory_usage(key, samples=0)
            total += sum(size or 0 for size in await pipeline.execute())
        expiring = (await redis.info("keyspace")).get("db0", {}).get("expires", 0)
        return total + expiring * EXPIRY_BYTES

    # -- streams --------------------------------------------------------------------------------

    async def _streams(self) -> dict[str, float]:
        url = f"{self._running.url('concurrency')}/v1/users/"
        ids: dict[int, str] = {}
        memory = await self._redis_bytes()
        async with aiohttp.ClientSession(base_url=url) as http:

            async def start(number: int) -> bool:
                body = {"deviceId": f"device-{number}"}
                async with http.post(f"user-{number // STREAMS_A_USER}/streams", json=body) as answer:
                    if answer.status == 201:
                        ids[number] = (await answer.json())["streamId"]
                    return answer.status == 201

            async def ask(method: str, number: int) -> bool:
                if number not in ids:
                    return False
                path = f"user-{number // STREAMS_A_USER}/streams/{ids[number]}"
                async with http.request(method, path) as answer:
                    await answer.read()
                    return answer.status < 300

            async def beat(number: int) -> bool:
                return await ask("PUT", number)

            async def stop(number: int) -> bool:
                return await ask("DELETE", number)

            costs: dict[str, float] = {}
            for step, share, one in (("start", 0.7, start), ("beat", 0.78, beat), ("stop", 0.85, stop)):
                self._told(f"streams: {step}", share)
                before = await self._running.spent()
                done = await _repeat(STREAMS, one)
                lap = await self._lap(before)
                costs[f"stream_{step}_us"] = lap.cpu_us["concurrency"] / done
                costs[f"redis_stream_{step}_us"] = lap.cpu_us["redis"] / done
                if step == "beat":
                    costs["beat_bytes"] = lap.wire_bytes / done
                    costs["redis_stream_bytes"] = (await self._redis_bytes() - memory) / len(ids)
            left = len(ids) - done
        ended = await self._redis_bytes() - memory - left * costs["redis_stream_bytes"]
        return {**costs, "redis_ended_stream_bytes": ended / done}

    # -- the registry and the partitions ----------------------------------------------------------

    async def _registry(self, store: RedisStore) -> dict[str, float]:
        async def beat(number: int) -> bool:
            await store.check()
            await store.heartbeat(_report(number, incarnation=number + 1))
            return True

        before = await self._running.spent()
        registered = await _repeat(INSTANCES, beat, width=1)
        after = await self._running.spent()
        heartbeat_us = (after.cpu_us["redis"] - before.cpu_us["redis"]) / registered
        roster = Roster(store, SystemClock(), random.Random(0))  # noqa: S311 - nothing secret
        before, began_s = await self._running.spent(), time.process_time()
        read = registered * await _repeat(20, lambda _: _done(roster.refresh()), width=1)
        spent_us = (time.process_time() - began_s) * 1e6
        after = await self._running.spent()
        return {
            "redis_heartbeat_us": heartbeat_us,
            "redis_reading_us": (after.cpu_us["redis"] - before.cpu_us["redis"]) / read,
            "reading_bytes": (after.wire_bytes - before.wire_bytes) / read,
            "reader_us": spent_us / read,
        }

    async def _ticks(self, store: RedisStore) -> dict[str, float]:
        before, began_s = await self._running.spent(), time.process_time()
        looks = store.partitions * await _repeat(50, lambda _: _done(store.tick()), width=1)
        spent_us = (time.process_time() - began_s) * 1e6
        after = await self._running.spent()
        return {
            "redis_tick_us": (after.cpu_us["redis"] - before.cpu_us["redis"]) / looks,
            "watchdog_tick_us": spent_us / looks,
        }


async def _repeat(
    most: int, one: Callable[[int], Awaitable[bool]], *, first: int = 0, width: int = WIDTH
) -> int:
    """Carry out a step again and again, several at once, within bounds; returns how many did what they should.

    Raises:
        Unmeasurable: None did.
    """
    numbers = itertools.islice(itertools.count(first), most)
    until_s = time.monotonic() + STEP_S
    done = 0

    async def some() -> None:
        nonlocal done
        for number in numbers:
            succeeded = await one(number)
            done += succeeded  # not in one line: others count while this one waits
            if time.monotonic() > until_s:
                return

    async with asyncio.TaskGroup() as tasks:
        for _ in range(width):
            tasks.create_task(some())
    if not done:
        raise Unmeasurable("the programs did not do what they were asked: see `mediaflow doctor`")
    return done


async def _done(work: Awaitable[Any]) -> bool:
    await work
    return True


def _apart(few: tuple[float, float, float], many: tuple[float, float, float]) -> tuple[float, float]:
    """Tell a script's cost from that of each lease in it, by two measurements of (scripts, renewals, µs)."""
    scripts, renewals, spent_us = zip(few, many, strict=True)
    scale = scripts[0] * renewals[1] - scripts[1] * renewals[0]
    if scale <= 0:
        return 0.0, spent_us[1] / renewals[1]  # they shared no more scripts: there is nothing to tell apart
    script_us = (spent_us[0] * renewals[1] - spent_us[1] * renewals[0]) / scale
    renew_us = (scripts[0] * spent_us[1] - scripts[1] * spent_us[0]) / scale
    if script_us < 0:
        return 0.0, spent_us[1] / renewals[1]
    if renew_us < 0:
        return spent_us[1] / scripts[1], 0.0
    return script_us, renew_us


def _report(number: int, incarnation: int) -> InstanceReport:
    name = f"media-worker-{number:05}.example"
    return InstanceReport(
        instance_id=name,
        token=f"{number:016x}",
        incarnation=incarnation,
        rank=f"{number:016}-{name}",
        address=f"192.0.2.{number % 250}:8081",
        slots=100,
        used=number % 100,
        state="ready",
        version="0.1.0",
        started_at_ms=1_700_000_000_000 + number,
        renewals_per_s=30.0,
    )


def _machine() -> str:
    return (
        f"{platform.machine()}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )
