"""`mediaflow top`: instances, sessions and events, live."""

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import click
import msgspec
from rich.console import Console
from rich.live import Live

from mediaflow.api.messages import CallView, InstanceView
from mediaflow.cli import drawing
from mediaflow.cli.asking import balancer, json_option, print_json, run, url_option
from mediaflow.cli.board import Board, Row
from mediaflow.cli.picture import Picture, draw
from mediaflow.supervisor.caller import Caller, Unreachable

MOST_CALLS = 20_000
"""Calls that are read at the start, ended ones included."""

_PAGE = 500
_ROWS_IN_A_SNAPSHOT = 50
_AT_ONCE = 8
_AGAIN_AFTER_S = 1.0
_DEADLINE_S = 30.0
_READ_ANEW_AFTER_S = 60.0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What there is now; printed as it is with ``--json``. ``more_sessions`` are not among ``sessions``."""

    source: str
    instances: list[InstanceView]
    sessions: list[Row]
    more_sessions: int
    complete: bool


def _top(*, url: str, interval: float, as_json: bool) -> int:
    console = drawing.console()
    if as_json or not console.is_terminal or not sys.stdin.isatty():
        run(_once(url, console, as_json=as_json))
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        run(_live(url, console, interval))
    return 0


async def _once(url: str, console: Console, *, as_json: bool) -> None:
    """Print how it is now."""
    async with balancer(url) as caller:
        watch = _Watch(caller)
        with drawing.console(stderr=True).status("reading calls"):
            await watch.read()
            await watch.look(_ROWS_IN_A_SNAPSHOT)
    board = watch.board
    if not as_json:
        console.print(draw(watch.picture(), console.width, None))
        return
    rows = board.first(_ROWS_IN_A_SNAPSHOT)
    print_json(
        Snapshot(
            source=url,
            instances=watch.instances,
            sessions=rows,
            more_sessions=len(board) - len(rows),
            complete=board.complete,
        )
    )


async def _live(url: str, console: Console, interval_s: float) -> None:
    """Draw until somebody presses q or Ctrl-C."""
    async with balancer(url) as caller:
        watch = _Watch(caller)
        async with watch.following():
            with (
                _keys() as pressed,
                Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False) as live,
            ):
                while not pressed.is_set():
                    await watch.refresh(console.height)
                    live.update(draw(watch.picture(), console.width, console.height), refresh=True)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(interval_s):
                            await pressed.wait()


class _Watch:
    """Keeps a board up to date.

    Attributes:
        instances: As they were read last.
        trouble: Why what is shown may be old; empty if it is not.
    """

    def __init__(self, caller: Caller) -> None:
        self.board = Board()
        self.instances: list[InstanceView] = []
        self.trouble = ""
        self._caller = caller
        self._reading = True
        self._missed = asyncio.Event()

    def picture(self) -> Picture:
        return Picture(
            source=self._caller.url,
            instances=self.instances,
            board=self.board,
            trouble=self.trouble,
            reading=self._reading,
        )

    async def read(self) -> None:
        """Read the instances and all calls, as many as are looked at.

        Raises:
            Unreachable: There was no usable answer.
        """
        calls: list[CallView] = []
        complete = True
        self.board.begin_reading()
        try:
            async with asyncio.timeout(_DEADLINE_S):
                self.instances = await self._caller.instances()
                seen = 0
                async for call in self._caller.calls(page=_PAGE):
                    seen += 1
                    if call.state in ("active", "pending"):
                        calls.append(call)
                    if seen >= MOST_CALLS:
                        complete = False
                        break
        except TimeoutError:
            complete = False
        self.board.replace(calls, complete=complete)
        self._reading = False

    async def refresh(self, rows: int) -> None:
        """Read what can be seen; trouble is kept to be shown."""
        try:
            self.instances = await self._caller.instances()
            await self.look(rows)
        except Unreachable as error:
            self.trouble = str(error)
        else:
            self.trouble = ""

    async def look(self, rows: int) -> None:
        """Read the calls of the first rows anew: only their owner's lease tells how long it still is."""
        turnstile = asyncio.Semaphore(_AT_ONCE)

        async def one(call_id: str) -> None:
            async with turnstile:
                found = await self._caller.look(call_id)
            if found is None:
                self.board.forget(call_id)
            else:
                self.board.look(found)

        wanted = dict.fromkeys(row.call_id for row in self.board.first(rows))
        await asyncio.gather(*(one(call_id) for call_id in wanted))

    @asynccontextmanager
    async def following(self) -> AsyncGenerator[None]:
        """Read all calls, now and then, and take up events meanwhile."""
        tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._keep_reading())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_reading(self) -> None:
        while True:
            self._missed.clear()
            try:
                await self.read()
            except Unreachable:  # who looks at the instances is told the same
                await asyncio.sleep(_AGAIN_AFTER_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_READ_ANEW_AFTER_S):
                    await self._missed.wait()

    async def _follow(self) -> None:
        after = ""
        while True:
            with contextlib.suppress(Unreachable):
                async for event in self._caller.events(after):
                    if event is None:
                        continue
                    after = event.id
                    self.board.observe(event)
            self._missed.set()
            await asyncio.sleep(_AGAIN_AFTER_S)


@contextmanager
def _keys() -> Generator[asyncio.Event]:
    """Give an event that is set when q is pressed; keys are not echoed meanwhile."""
    pressed = asyncio.Event()
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    loop = asyncio.get_running_loop()

    def on_key() -> None:
        if not (typed := os.read(terminal, 64)) or b"q" in typed.lower():
            pressed.set()

    try:
        tty.setcbreak(terminal)
        loop.add_reader(terminal, on_key)
        yield pressed
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


command = click.Command(
    "top",
    callback=_top,
    help=(
        "Watch instances, sessions and events, live; q or Ctrl-C leaves. Sessions that wait for an owner come first, "
        "then those that changed last. Where nobody watches, in a pipe, it prints once how it is now."
    ),
    short_help="Watch instances and sessions, live.",
    params=[
        url_option(),
        click.Option(
            ["--interval"],
            type=click.FloatRange(0.1, 60),
            default=1.0,
            show_default=True,
            metavar="S",
            help="Between two looks.",
        ),
        json_option("how it is now"),
    ],
)
