"""Many faults at once, in an order that a number decides: what no test of one fault alone would meet."""

import asyncio
import contextlib
import os
import random

import pytest
from harness.proxy import Proxy
from harness.stage import TTL_S, Stage

pytestmark = [pytest.mark.redis, pytest.mark.slow]

LASTS_S = 12.0
SEEDS = tuple(map(int, os.environ.get("CHAOS_SEEDS", "1").split()))
NAMES = ("w1", "w2", "w3", "w4")


class Chaos:
    """Does bad things to a stage, each for a while, several at a time; undoes them all in the end."""

    def __init__(self, stage: Stage, server, proxies: dict[str, Proxy], seed: int) -> None:
        self._stage = stage
        self._server = server
        self._proxies = proxies
        self._random = random.Random(seed)
        self._story = stage.story
        self._busy: set[str] = set()
        self._redis_busy = False

    async def run(self) -> None:
        deeds = [self._pause, self._kill, self._cut, self._freeze, self._empty, self._nuisance]
        async with asyncio.TaskGroup() as group:
            while self._story.now_s() < LASTS_S:
                group.create_task(self._random.choice(deeds)(self._random.uniform(0.2, 1.5 * TTL_S)))
                await asyncio.sleep(self._random.uniform(0.2, 2.5))

    def _victim(self) -> str | None:
        # One worker at least is left alone: a call that nobody can run is nobody's fault.
        free = [name for name in NAMES if name not in self._busy]
        if len(free) < 3:
            return None
        name = self._random.choice(free)
        self._busy.add(name)
        return name

    async def _pause(self, lasts_s: float) -> None:
        if name := self._victim():
            self._stage.pause(name)
            await asyncio.sleep(lasts_s)
            self._stage.resume(name)
            self._busy.discard(name)

    async def _kill(self, lasts_s: float) -> None:
        if name := self._victim():
            await self._stage.kill(name)
            await asyncio.sleep(lasts_s / 2)
            await self._stage.join(name, "--redis", self._proxies[name].url)
            self._busy.discard(name)

    async def _cut(self, lasts_s: float) -> None:
        if name := self._victim():
            how = self._random.choice(("both", "replies"))
            self._story.fault("cut", name, how)
            proxy = self._proxies[name]
            proxy.black_hole() if how == "both" else proxy.hold_replies()
            await asyncio.sleep(lasts_s)
            if self._random.random() < 0.5:
                await proxy.break_connections()
            proxy.heal()
            self._story.fault("mended", name)
            self._busy.discard(name)

    async def _freeze(self, lasts_s: float) -> None:
        if not self._redis_busy:
            self._redis_busy = True
            self._story.fault("frozen")
            self._server.freeze()
            await asyncio.sleep(lasts_s)
            self._server.thaw()
            self._story.fault("thawed")
            self._redis_busy = False

    async def _empty(self, lasts_s: float) -> None:
        if not self._redis_busy:
            self._redis_busy = True
            await asyncio.to_thread(self._server.stop)
            self._story.fault("stopped")
            await asyncio.sleep(lasts_s / 3)
            await asyncio.to_thread(self._server.start)
            self._story.fault("emptied")
            self._redis_busy = False

    async def _nuisance(self, lasts_s: float) -> None:
        if not self._redis_busy:
            self._server.command("SCRIPT", "FLUSH")
            self._server.command("CLIENT", "KILL", "TYPE", self._random.choice(("normal", "pubsub")))


@pytest.mark.parametrize("seed", SEEDS)
async def test_g4_after_many_faults_at_once_every_call_runs_once(open_stage, redis_server, seed):
    stage = open_stage(redis_server.url)
    async with contextlib.AsyncExitStack() as stack:
        proxies = {name: await stack.enter_async_context(Proxy(redis_server.port)) for name in NAMES}
        await stage.open(*NAMES, **{name: ("--redis", proxy.url) for name, proxy in proxies.items()})
        await stage.fill(40)
        async with stage.load(lasts=3):
            await Chaos(stage, redis_server, proxies, seed).run()
            await stage.seen(len(NAMES))
        await stage.judge()
