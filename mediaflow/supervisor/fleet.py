"""The programs of `mediaflow up`, as one thing to start, to kill a part of, and to stop in order.

Two of a kind: here each program is a process; in :mod:`mediaflow.supervisor.together` all share this one.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from mediaflow.processes.child import Child, End
from mediaflow.processes.restarts import MOST_FAILURES, describe_end
from mediaflow.supervisor.chronicle import Chronicle
from mediaflow.supervisor.plan import BALANCER, CONCURRENCY, WATCHDOG, Plan
from mediaflow.supervisor.screen import Screen

DRAIN_GRACE_S = 15.0
"""How long a program may take to end after SIGTERM, beyond the drain time that was set."""

BAD, GOOD, ODD = "bold red", "green", "yellow"


class Fleet(Protocol):
    """What runs."""

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to start everything, in tasks that end after :meth:`stop`."""
        ...

    async def settled(self) -> bool:
        """Wait until each program serves (True), or one was given up (False)."""
        ...

    def running(self) -> list[str]:
        """Return the workers that serve now."""
        ...

    def kill(self, worker: str) -> bool:
        """End a worker without a farewell; True if it ran."""
        ...

    async def stop(self) -> bool:
        """Stop workers, then the watchdog, then what takes requests; True if all ended well."""
        ...


class ProcessFleet:
    """A process for each program."""

    def __init__(self, plan: Plan, screen: Screen, chronicle: Chronicle) -> None:
        self._plan = plan
        self._screen = screen
        self._chronicle = chronicle
        self._stopping = False
        self._known: set[str] = set()
        environment = plan.environment(os.environ)
        self._children = {
            name: Child(name, command, self, environment=environment, talkative=plan.talkative)
            for name, command in plan.commands().items()
        }

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start all processes at once: none needs another to start."""
        for child in self._children.values():
            tasks.create_task(child.keep(), name=child.name)

    async def settled(self) -> bool:
        """Wait until each program serves (True), or one was given up (False)."""
        waits = [asyncio.ensure_future(child.settled()) for child in self._children.values()]
        try:
            for wait in asyncio.as_completed(waits):
                if not await wait:
                    return False
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return True

    def running(self) -> list[str]:
        """Return the workers that serve now."""
        return [name for name in self._plan.workers if self._children[name].ready]

    def kill(self, worker: str) -> bool:
        """Send SIGKILL."""
        return self._children[worker].kill()

    async def stop(self) -> bool:
        """Stop workers first, so that they can hand off and say goodbye to a store that is there."""
        self._stopping = True
        settings = self._plan.settings
        deadline_s = DRAIN_GRACE_S + (settings.drain_timeout if settings.drain == "wait" else 0.0)
        workers = [self._children[name].stop(deadline_s) for name in self._plan.workers]
        well = await asyncio.gather(*workers)
        for name in (WATCHDOG, CONCURRENCY, BALANCER):
            well.append(await self._children[name].stop(DRAIN_GRACE_S))
        return all(well)

    # What children report.

    def on_ready(self, child: Child) -> None:
        """Tell where a program serves."""
        again = "again " if child.name in self._known else ""
        self._known.add(child.name)
        self._screen.event(f"{child.name} ready {again}at {child.url}", GOOD)

    def on_end(self, child: Child, end: End) -> None:
        """Tell of an end; of a worker's together with what becomes of its calls."""
        how = describe_end(end.status)
        if end.was_ready and end.status != 0 and child.name in self._plan.workers:
            self._chronicle.died(child.name, end.at_ms, how)
            if end.pause_s is not None:
                return
        if end.was_ready and end.status == 0 and end.pause_s is not None:
            self._screen.event(
                f"{child.name} left, as it was asked to; starting it again in {end.pause_s:g} s", ODD
            )
            return
        last = f": {end.last_words}" if end.last_words and end.status > 0 else ""
        ended = "ended" if end.was_ready else "ended before it was ready"
        if end.pause_s is None:
            tries = "" if end.status == 2 else f" {MOST_FAILURES} times in a row"
            text = f"{child.name} {ended}{tries} ({how}){last}; it is not started again"
        else:
            text = f"{child.name} {ended} ({how}){last}; starting it again in {end.pause_s:g} s"
        self._screen.event(text, BAD)

    def on_line(self, child: Child, line: str) -> None:
        """Show what a program said."""
        if not self._stopping or self._plan.talkative:
            self._screen.event(f"{child.name}: {line}", ODD)


FleetMaker = Callable[[Plan, Screen, Chronicle], Fleet]
