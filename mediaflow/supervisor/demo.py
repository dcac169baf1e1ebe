"""`mediaflow up --demo`: calls come and go, workers are killed, and what it costs is counted.

The count is taken from outside, through the balancer: a call that was accepted and that nobody ended has to
be active or pending, or it is lost. Takeover times are from the death of the owner to the event
``session.takeover`` of the next one.
"""

import asyncio
import contextlib
import math
import random
import time
from contextlib import AsyncExitStack

import msgspec
from rich.console import Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from mediaflow.supervisor.caller import Caller, Unreachable
from mediaflow.supervisor.chronicle import Chronicle
from mediaflow.supervisor.figures import count, percentile
from mediaflow.supervisor.fleet import BAD, GOOD, ODD, Fleet
from mediaflow.supervisor.ledger import LIVE, Census, Ledger
from mediaflow.supervisor.pacing import paced
from mediaflow.supervisor.plan import Plan
from mediaflow.supervisor.screen import Screen

FIRST_KILL_AFTER_S = 4.0
SHORTEST_KILL_INTERVAL_S = 12.0
QUIET_END_S = 2.5
"""No kill so shortly before the end: people want to see what became of its calls."""
_CENSUS_INTERVAL_S = 2.0
_LINE_INTERVAL_S = 5.0
_CHURN_INTERVAL_S = 1.0
_LAST_CENSUS_S = 15.0


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo does: so many calls at such a rate; then for ``seconds``, or until Ctrl-C (0)."""

    calls: int = 60
    rate: float = 30.0
    seconds: float = 0.0


class Demo:
    """One run of the demo on a fleet that serves."""

    def __init__(
        self,
        options: DemoOptions,
        *,
        plan: Plan,
        fleet: Fleet,
        screen: Screen,
        chronicle: Chronicle,
    ) -> None:
        self._options = options
        self._fleet = fleet
        self._screen = screen
        self._chronicle = chronicle
        self._kill_interval_s = max(SHORTEST_KILL_INTERVAL_S, 1.2 * plan.settings.lease_ttl)
        self._caller = Caller(plan.url, api_token=plan.settings.api_token)
        self._ledger = Ledger()
        self._census = Census(0, 0, ())
        self._counted = False
        self._kills = 0
        self._number = 0
        self._end_at_s = math.inf
        self._limit: asyncio.Timeout | None = None
        self._random = random.Random()  # noqa: S311 - which worker to kill is no secret
        self._began = time.monotonic()
        self._bar = Progress(
            TextColumn("submitting"), BarColumn(40), MofNCompleteColumn(), auto_refresh=False
        )
        self._task = self._bar.add_task("calls", total=options.calls)

    async def run(self, stop: asyncio.Event) -> bool:
        """Run until ``stop`` or the time is over; True if no call was lost, and that could be counted."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._caller)
            with self._screen.panel(self._draw):
                await self._live(stop)
            await self._last_census()
        self._summary()
        return self._counted and not self._ledger.lost

    async def _live(self, stop: asyncio.Event) -> None:
        """Submit, then let calls come and go and workers die, until it is enough."""
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(self._keep_counting()),
                tasks.create_task(self._keep_telling()),
                tasks.create_task(self._submit_and_disturb()),
            ]
            await self._enough(stop)
            for task in work:
                task.cancel()

    async def _enough(self, stop: asyncio.Event) -> None:
        """Wait until the time is over, which begins when all calls were submitted, or for ``stop``."""
        if not self._options.seconds:
            await stop.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                self._limit = limit
                await stop.wait()

    async def _submit_and_disturb(self) -> None:
        await paced(self._options.calls, self._options.rate, lambda _: self._place())
        self._screen.event(f"{count(self._ledger.accepted, 'call')} accepted", GOOD)
        self._end_at_s = time.monotonic() + (self._options.seconds or math.inf)
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._options.seconds)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_churning())
            tasks.create_task(self._keep_killing())

    async def _place(self) -> None:
        self._number += 1
        placed = await self._caller.place(f"demo-{self._number}", {"number": self._number}, patient=True)
        if placed.accepted:
            self._ledger.accept(placed.call_id)
        else:
            self._ledger.refuse()
            self._screen.event(f"{placed.call_id} refused: {placed.problem}", BAD)
        self._bar.advance(self._task)

    async def _keep_churning(self) -> None:
        while True:
            await asyncio.sleep(_CHURN_INTERVAL_S)
            if live := self._ledger.live:
                self._ledger.end(live[0])
                await self._caller.end(live[0])
            await self._place()

    async def _keep_killing(self) -> None:
        # A short demo has to come to its point.
        await asyncio.sleep(min(FIRST_KILL_AFTER_S, (self._options.seconds or math.inf) / 3))
        while True:
            if self._kills and self._end_at_s - time.monotonic() < QUIET_END_S:
                return
            running = self._fleet.running()
            if len(running) > 1 and self._fleet.kill(victim := self._random.choice(running)):
                self._kills += 1
                self._screen.event(f"{victim} is killed without warning", ODD)
            await asyncio.sleep(self._kill_interval_s)

    async def _keep_counting(self) -> None:
        while True:
            await asyncio.sleep(_CENSUS_INTERVAL_S)
            await self._count()

    async def _keep_telling(self) -> None:
        if self._screen.live:
            return
        while True:
            await asyncio.sleep(_LINE_INTERVAL_S)
            self._screen.event(self._figures())

    async def _count(self) -> bool:
        """Ask for all calls, and for each suspected one again; False if the balancer did not answer."""
        expected = self._ledger.live
        try:
            states = {
                call.call_id: call.state for state in sorted(LIVE) async for call in self._caller.calls(state)
            }
            census = self._ledger.take_census(expected, states)
            for call_id in census.missing:
                call = await self._caller.look(call_id)
                state = call.state if call else None
                if call_id not in self._ledger.lost and self._ledger.judge(call_id, state):
                    self._screen.event(f"{call_id} is lost: it is {state or 'not known'}", BAD)
        except Unreachable:
            return False
        self._census = census
        return True

    async def _last_census(self) -> None:
        deadline = time.monotonic() + _LAST_CENSUS_S
        while not self._counted and time.monotonic() < deadline:
            self._counted = await self._count()
            if not self._counted:
                await asyncio.sleep(0.2)

    # What people see.

    def _takeovers(self) -> str:
        times = list(self._chronicle.takeovers_ms)
        if not times:
            return "none yet"
        return f"{self._chronicle.takeovers}, p50 {percentile(times, 0.5):.0f} ms, p99 {percentile(times, 0.99):.0f} ms"

    def _figures(self) -> str:
        ledger, census = self._ledger, self._census
        return (
            f"calls: {ledger.accepted} accepted, {census.running} running, {census.pending} waiting, "
            f"{ledger.ended} ended, {len(ledger.lost)} lost; takeovers: {self._takeovers()}"
        )

    def _draw(self) -> RenderableType:
        ledger, census = self._ledger, self._census
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title in ("accepted", "running", "waiting", "ended", "refused", "lost", "kills"):
            table.add_column(title, justify="right")
        lost = len(ledger.lost)
        table.add_row(
            *map(str, (ledger.accepted, census.running, census.pending, ledger.ended, ledger.refused)),
            f"[{BAD if lost else GOOD}]{lost}[/]",
            str(self._kills),
        )
        parts: list[RenderableType] = ["", table, f"[dim]takeovers[/]  {self._takeovers()}"]
        if not self._bar.finished:
            parts.insert(1, self._bar)
        return Group(*parts)

    def _summary(self) -> None:
        ledger, census = self._ledger, self._census
        self._screen.plain()
        ran_s = time.monotonic() - self._began
        self._screen.plain(f"The demo ran {ran_s:.0f} s and killed {count(self._kills, 'worker')}.")
        self._screen.plain(
            f"  calls      {ledger.accepted} accepted, {ledger.refused} refused, {ledger.ended} ended by us"
        )
        if not self._counted:
            self._screen.plain("  lost       not known: the balancer did not answer the last count")
        else:
            self._screen.plain(f"  alive      {census.running} running, {census.pending} waiting")
            self._screen.plain(f"  lost       {len(ledger.lost)}")
        self._screen.plain(f"  takeovers  {self._takeovers()}")
        self._screen.plain()
