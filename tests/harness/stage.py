"""A whole system of real processes, to which a test does something bad, and whose history is then judged."""

import asyncio
import collections
import contextlib
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from harness.api import Answer, Api
from harness.journal import Story
from harness.processes import Fleet, Program
from harness.waiting import eventually
from mediaflow.testing.checkers import check_all
from mediaflow.testing.history import AnyHappening, Joined, Left, Terms, transcript

TTL_S = 3.0
PATIENCE_S = 40.0
"""For waits that promise nothing: on a busy machine all of it takes its time."""

SLACK_S = 1.0
"""What a busy machine may add to a bound of time; what it was seen to add by itself comes on top."""

CRASH_BOUND_S = 1.0
NAP_S = 0.02
UNAVOIDABLE_S = 0.005
LINES_SHOWN = 60


class Stalls:
    """Measures by how much the machine makes us late, for as long as :meth:`run` does.

    Attributes:
        worst_s: The most that was lost within the time in which a lease has to move.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._recent: collections.deque[tuple[float, float]] = collections.deque()

    async def run(self) -> None:
        while True:
            asked_s = time.monotonic()
            await asyncio.sleep(NAP_S)
            self._note(time.monotonic(), time.monotonic() - asked_s - NAP_S)

    def _note(self, now_s: float, late_s: float) -> None:
        self._recent.append((now_s, late_s))
        while self._recent[0][0] < now_s - TTL_S - SLACK_S:
            self._recent.popleft()
        self.worst_s = max(self.worst_s, sum(late_s for _, late_s in self._recent if late_s > UNAVOIDABLE_S))


class Stage:
    """Workers by name that run ``harness.handlers:count``, a balancer, and watchdogs, on one Redis."""

    def __init__(self, fleet: Fleet, client: aiohttp.ClientSession, journal: Path, stalls: Stalls) -> None:
        self.fleet = fleet
        self.story = Story(journal)
        self.workers: dict[str, Program] = {}
        self.watchdogs: list[Program] = []
        self.balancer: Program
        self.api: Api
        self._client = client
        self._processes: Counter[str] = Counter()
        self._stalls = stalls

    async def open(self, *names: str, slots: int = 100, watchdogs: int = 1, **flags: tuple[str, ...]) -> None:
        """Start all of it, and wait until the balancer sees every worker; ``flags`` are some workers' own."""
        self.balancer = self.fleet.start("loadbalancer")
        self.watchdogs = [self.fleet.start("watchdog") for _ in range(watchdogs)]
        await asyncio.gather(
            *(self.join(name, *flags.get(name, ()), slots=slots) for name in names),
            *(program.ready() for program in (self.balancer, *self.watchdogs)),
        )
        self.api = self.face(self.balancer)
        await self.seen(len(names))

    async def join(self, name: str, *arguments: str, slots: int = 100, inside: Sequence[str] = ()) -> Program:
        """Start a worker, or another process of one."""
        self._processes[name] += 1
        program = self.workers[name] = self.fleet.start(
            "worker",
            *("--instance-id", name, "--slots", str(slots), "--app", "harness.handlers:count"),
            *arguments,
            inside=inside,
        )
        self.story.tell(Joined, instance_id=name, process=self._processes[name], slots=slots)
        await program.ready()
        return program

    async def seen(self, instances: int) -> None:
        """Wait until the balancer sees so many instances."""
        await eventually(
            lambda: self.api.gauge("instances"),
            PATIENCE_S,
            until=lambda seen: seen == instances,
            every_s=0.05,
        )

    def face(self, program: Program) -> Api:
        return Api(self._client, program.url)

    # -- what is done to it ---------------------------------------------------------------------

    async def kill(self, name: str) -> None:
        """Kill a worker without a farewell."""
        program = self.workers[name]
        program.kill()
        await program.ended()
        self.story.killed(program.pid)
        self.story.fault("killed", name)
        self.story.tell(Left, instance_id=name, process=self._processes[name], reason="killed")

    def pause(self, name: str) -> None:
        self.story.fault("paused", name)
        self.workers[name].stop()

    def resume(self, name: str) -> None:
        self.workers[name].cont()
        self.story.fault("resumed", name)

    # -- what is asked of it --------------------------------------------------------------------

    async def submit(self, call_id: str, metadata: Any = None, *, key: str = "", to: str = "") -> Answer:
        """Ask the balancer, or the worker ``to``, for a call."""
        api = self.face(self.workers[to]) if to else self.api
        return await self.story.submit(api, call_id, metadata, key)

    async def insist(self, call_id: str, metadata: Any = None) -> None:
        """Ask for a call with the same key until it is acknowledged, as a client with patience does."""
        deadline_s = time.monotonic() + PATIENCE_S
        while (answer := await self.submit(call_id, metadata)).status not in (200, 201):
            assert answer.status in (0, 503), answer
            assert time.monotonic() < deadline_s, f"{call_id} was never acknowledged: {answer}"
            await asyncio.sleep(0.2)

    async def fill(
        self, count: int, *, to: str = "", every_s: float = 0.5, prefix: str = "call"
    ) -> list[str]:
        """Have so many calls run, and wait until each has written something."""
        call_ids = [f"{prefix}-{number}" for number in range(count)]
        turnstile = asyncio.Semaphore(16)

        async def one(call_id: str) -> None:
            async with turnstile:
                answer = await self.submit(call_id, {"every_s": every_s}, to=to)
            assert answer.status == 201, answer

        await asyncio.gather(*(one(call_id) for call_id in call_ids))
        await eventually(lambda: self.written(call_ids), PATIENCE_S, about="all have written", every_s=0.1)
        return call_ids

    async def all_write(self, call_ids: Sequence[str], *, by: str = "") -> None:
        """Wait until each of these calls has written since now, at the instance ``by`` if one is given."""
        since_s = self.story.now_s()
        await eventually(
            lambda: self.written(call_ids, since_s=since_s, by=by),
            PATIENCE_S,
            about="all go on",
            every_s=0.1,
        )

    def written(self, call_ids: Sequence[str], *, since_s: float = 0.0, by: str = "") -> bool:
        """Whether each of these calls has written since a moment of the story."""
        began_s = time.monotonic() - self.story.now_s() + since_s
        wrote = {
            entry.call_id
            for entry in self.story.entries()
            if entry.what == "write" and entry.asked_s >= began_s and by in ("", entry.instance_id)
        }
        return wrote.issuperset(call_ids)

    @contextlib.asynccontextmanager
    async def load(self, *, every_s: float = 0.1, lasts: int = 0) -> AsyncIterator[list[str]]:
        """Ask for new calls all the while, and end all but ``lasts`` in each ten of them soon after.

        Each is asked for until it is acknowledged; at the end of the block all have been.
        """
        asked: list[str] = []

        async def client(call_id: str, *, ends: bool) -> None:
            await self.insist(call_id, {"every_s": 0.5})
            if ends:
                await asyncio.sleep(1.0)
                while await self.story.end(self.api, call_id) == 503:
                    await asyncio.sleep(0.2)

        async def arrivals(clients: asyncio.TaskGroup) -> None:
            for number in itertools.count():
                asked.append(f"load-{number}")
                clients.create_task(client(asked[-1], ends=number % 10 >= lasts))
                await asyncio.sleep(every_s)

        async with asyncio.TaskGroup() as clients:
            arriving = clients.create_task(arrivals(clients))
            try:
                yield asked
            finally:
                arriving.cancel()

    # -- how it ends ------------------------------------------------------------------------------

    async def unsettled(self) -> dict[str, str]:
        """Return, of all calls that were acknowledged, those that do not run once, at their owner; and how they are."""
        owners: defaultdict[str, list[str]] = defaultdict(list)
        running: defaultdict[str, list[str]] = defaultdict(list)
        for call in await self.api.calls("active"):
            owners[call["callId"]] += [one["owner"] for one in call["sessions"] if one["state"] == "active"]
        for run in self.story.running():
            running[run.call_id].append(run.instance_id)
        return {
            call_id: f"owned by {owners[call_id]}, runs on {running[call_id]}"
            for call_id in sorted({*self.story.owed(), *running})
            if len(owners[call_id]) != 1 or owners[call_id] != running[call_id]
        }

    async def settle(self) -> None:
        """Wait until every call that was acknowledged runs once; failing that, what is wrong is for the judge."""
        with contextlib.suppress(AssertionError):
            await eventually(self.unsettled, PATIENCE_S, until=lambda found: not found, every_s=0.2)

    async def judge(self) -> list[AnyHappening]:
        """Let it settle, and have its history checked for every promise; returns the history."""
        self.story.healed()
        await self.settle()
        unsettled = await self.unsettled()
        instances = await self.api.instances()
        self.story.final(await self.api.calls(), {name: one["slots"] for name, one in instances.items()})
        history = self.story.history()
        violations = check_all(history, self.terms())
        assert not violations, _report([str(one) for one in violations], history)
        assert not unsettled, _report([f"{call_id}: {how}" for call_id, how in unsettled.items()], history)
        return history

    def terms(self) -> Terms:
        return Terms(
            lease_ttl_s=TTL_S,
            accept_ttl_s=2.0,
            max_attempts=3,
            max_takeovers=5,
            slack_s=SLACK_S + self._stalls.worst_s,
            crash_bound_s=CRASH_BOUND_S,
        )


def _report(problems: list[str], history: Sequence[AnyHappening]) -> str:
    shown = problems[:20] + ([f"… and {len(problems) - 20} more"] if len(problems) > 20 else [])
    calls = {word.strip(",:'\"") for problem in shown for word in problem.split()}
    telling = [one for one in history if getattr(one, "call_id", "") in ("", *calls)]
    return "\n".join([*shown, "", transcript(telling[:LINES_SHOWN]), transcript(telling[-LINES_SHOWN:])])
