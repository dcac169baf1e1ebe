"""`mediaflow drain`: have an instance leave, and see its sessions off."""

import asyncio
import contextlib
import time

import click
import msgspec
from click.shell_completion import CompletionItem
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mediaflow.api.messages import InstanceView
from mediaflow.cli import drawing
from mediaflow.cli.asking import balancer, json_option, print_json, run, url_option
from mediaflow.cli.farewell import Farewell
from mediaflow.core.names import IllegalName, check_instance_id
from mediaflow.supervisor.caller import Caller, NotThere, Unreachable
from mediaflow.supervisor.figures import count
from mediaflow.web.hosting import StartError

_COMPLETION_DEADLINE_S = 1.0
_LOOK_INTERVAL_S = 1.0
_AGAIN_AFTER_S = 0.2
_TAKEN_UP_WITHIN_S = 3.0
"""So long is waited for the next owners, once the instance has left: what waits for a slot may wait for ever."""


class Result(msgspec.Struct, kw_only=True, rename="camel"):
    """What came of it; printed as it is with ``--json``.

    ``sessions`` is how many it had when it began; ``taken_up`` counts those handed off by their next owner, and
    ``waiting`` those that have none yet.
    """

    instance_id: str
    left: bool
    sessions: int
    handed_off: int = 0
    taken_up: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    waiting: int = 0
    ended: int = 0
    seconds: float = 0.0


def _drain(instance: str, *, url: str, wait: bool, timeout: float, as_json: bool) -> int:
    try:
        check_instance_id(instance)
    except IllegalName as error:
        raise click.UsageError(str(error)) from None
    result = run(_run(instance, url, timeout_s=timeout if wait else 0.0))
    if as_json:
        print_json(result)
    else:
        click.echo(_told(result, wait=wait))
    if wait and not result.left:
        raise StartError(
            f"{instance} has not left within {timeout:g} s; it goes on draining: see `mediaflow status`"
        )
    return 0


async def _run(instance: str, url: str, *, timeout_s: float) -> Result:
    async with balancer(url) as caller:
        try:
            return await _Drain(caller, instance).run(timeout_s)
        except NotThere as error:
            known = ", ".join(sorted(view.instance_id for view in await caller.instances())) or "none"
            raise Unreachable(f"{error.args[0].partition(':')[0]}; the instances are: {known:.500}") from None


class _Drain:
    """One drain, as its instance's events tell it."""

    def __init__(self, caller: Caller, instance: str) -> None:
        self._caller = caller
        self._instance = instance
        self._farewell = Farewell(instance)
        self._opened = asyncio.Event()
        self._moved = asyncio.Event()
        self._left_at_s = 0.0

    async def run(self, timeout_s: float) -> Result:
        began_s = time.monotonic()
        if not timeout_s:
            view = await self._caller.drain(self._instance)
            return Result(instance_id=self._instance, left=False, sessions=view.used)
        listening = asyncio.create_task(self._listen())
        try:
            await self._opened.wait()  # bounded: the first connection is made, or given up
            view = await self._caller.drain(self._instance)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._see_off(view)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        farewell = self._farewell
        return Result(
            instance_id=self._instance,
            left=farewell.left,
            sessions=view.used,
            handed_off=farewell.handed_off,
            taken_up=dict(farewell.taken_up.most_common()),
            waiting=farewell.waiting,
            ended=farewell.ended,
            seconds=round((self._left_at_s or time.monotonic()) - began_s, 2),
        )

    async def _listen(self) -> None:
        """Follow the events; where they break off, go on behind the last one."""
        after = ""
        while True:
            with contextlib.suppress(Unreachable):
                async for event in self._caller.events(after):
                    if event is not None:
                        after = event.id
                        self._farewell.observe(event)
                        self._moved.set()
                    self._opened.set()
            self._opened.set()
            await asyncio.sleep(_AGAIN_AFTER_S)

    async def _see_off(self, view: InstanceView) -> None:
        console = drawing.console(stderr=True)
        bar = Progress(
            TextColumn("draining {task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("sessions gone"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        with bar:
            task = bar.add_task(self._instance, total=view.used)
            while not self._farewell.left:
                await self._next()
                bar.update(task, completed=self._farewell.gone)
            self._left_at_s = time.monotonic()
            bar.update(task, description=f"{self._instance} has left:")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TAKEN_UP_WITHIN_S):
                    while self._farewell.waiting:
                        await self._next()

    async def _next(self) -> None:
        """Wait for the next event; where none comes, look whether the instance is still listed."""
        self._moved.clear()
        try:
            async with asyncio.timeout(_LOOK_INTERVAL_S):
                await self._moved.wait()
        except TimeoutError:
            with contextlib.suppress(Unreachable):
                self._farewell.look(await self._caller.instances())


def _told(result: Result, *, wait: bool) -> str:
    """Say it in a line."""
    name = result.instance_id
    if not wait:
        return f"{name} drains, with {count(result.sessions, 'session')}; `mediaflow status` shows whether it has left"
    parts: list[str] = []
    if result.handed_off:
        where = ", ".join(
            f"{number:,} to {'a new ' if owner == name else ''}{owner}"
            for owner, number in result.taken_up.items()
        )
        waits = f"{result.waiting:,} still without an owner" if result.waiting else ""
        parts.append(
            f"{count(result.handed_off, 'session')} handed off"
            + (f" ({'; '.join(filter(None, (where, waits)))})" if where or waits else "")
        )
    if result.ended:
        parts.append(f"{count(result.ended, 'session')} ended by themselves")
    if not result.left:
        return f"{name} still drains: {', '.join(parts) or 'nothing handed off yet'}"
    unheard = (
        f"of its {count(result.sessions, 'session')} nothing was heard: `mediaflow status` shows the calls"
    )
    nothing = unheard if result.sessions else "it had no session to hand off"
    return f"{name} has left after {result.seconds:.1f} s: {', '.join(parts) or nothing}"


def _complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the instances whose id begins like that; none where the balancer does not say in a moment."""

    async def listed() -> list[InstanceView]:
        async with asyncio.timeout(_COMPLETION_DEADLINE_S), balancer(context.params["url"]) as caller:
            return await caller.instances()

    try:
        found = asyncio.run(listed())
    except Exception:  # noqa: BLE001 - whatever is wrong, a shell that completes wants to hear nothing of it
        return []
    return [
        CompletionItem(view.instance_id, help=f"{view.state}, {view.used} of {view.slots} slots used")
        for view in found
        if view.instance_id.startswith(incomplete)
    ]


command = click.Command(
    "drain",
    callback=_drain,
    help=(
        "Have INSTANCE take nothing new, hand its sessions off, leave and end, as SIGTERM does; and wait until it "
        "has. Asking again changes nothing."
    ),
    short_help="Have an instance hand its sessions off and leave.",
    params=[
        click.Argument(["instance"], shell_complete=_complete),
        url_option(),
        click.Option(
            ["--wait/--no-wait"], default=True, show_default=True, help="Wait until the instance has left."
        ),
        click.Option(
            ["--timeout"],
            type=click.FloatRange(0.1, 86_400),
            default=120.0,
            show_default=True,
            metavar="S",
            help="How long to wait at most.",
        ),
        json_option("what came of it"),
    ],
)
