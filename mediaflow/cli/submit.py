"""`mediaflow submit`: so many calls at such a rate, and how they were answered."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mediaflow.cli.asking import balancer, json_option, print_json, run, url_option
from mediaflow.core.names import IllegalName, check_call_id
from mediaflow.supervisor.caller import Caller, Placed
from mediaflow.supervisor.figures import count, percentile
from mediaflow.supervisor.pacing import paced

_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_MOST_PROBLEMS = 5


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; ``hold`` is None when calls are left running."""

    url: str
    calls: int
    rate: float
    prefix: str
    metadata: dict[str, Any]
    hold: float | None


class Result(msgspec.Struct, kw_only=True):
    """What came of it; printed as it is with ``--json``.

    ``statuses`` counts the answers: ``201``, ``503``, or ``none`` where there was none before the deadline.
    """

    accepted: int = 0
    created: int = 0
    refused: int = 0
    repeated: int = 0
    ended: int = 0
    not_ended: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = msgspec.field(default_factory=Counter[str])
    states: Counter[str] = msgspec.field(default_factory=Counter[str])
    latency_ms: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    problems: Counter[str] = msgspec.field(default_factory=Counter[str])

    def add(self, placed: Placed) -> None:
        """Count one call."""
        self.statuses[str(placed.status) if placed.status else "none"] += 1
        self.repeated += placed.tries > 1
        if placed.answer is None:
            self.refused += 1
            self.problems[placed.problem] += 1
        else:
            self.accepted += 1
            self.created += placed.answer.created
            self.states[placed.answer.state] += 1


def _submit(
    *,
    calls: int,
    rate: float,
    url: str,
    prefix: str,
    metadata: str,
    hold: float | None,
    end: bool,
    as_json: bool,
) -> int:
    if end and hold is not None:
        raise click.UsageError("--end and --hold exclude each other: --hold 0 ends each call at once")
    order = Order(
        url=url,
        calls=calls,
        rate=rate,
        prefix=prefix or f"call-{secrets.token_hex(3)}-",
        metadata=_metadata(metadata),
        hold=0.0 if end else hold,
    )
    try:
        check_call_id(f"{order.prefix}{order.calls}")
    except IllegalName as error:
        raise click.UsageError(f"--prefix {prefix!r}: {error}") from None
    result = run(_run(order))
    if as_json:
        print_json(result)
    else:
        _show(order, result)
    return 1 if result.refused or result.not_ended else 0


def _metadata(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise click.UsageError(f"--metadata {text[:60]!r} is not a JSON object: {error}") from None


class _Submission:
    """One run: calls are placed at their rate, and ended when their time has come."""

    def __init__(self, order: Order, caller: Caller, told: Callable[[Result], None]) -> None:
        self.result = Result()
        self._order = order
        self._caller = caller
        self._told = told
        self._latencies_ms: list[float] = []

    async def run(self) -> None:
        began = time.monotonic()
        async with asyncio.TaskGroup() as ends:
            await paced(self._order.calls, self._order.rate, lambda number: self._one(number, ends))
            self.result.seconds = round(time.monotonic() - began, 3)
        self.result.latency_ms = {
            name: round(percentile(self._latencies_ms, share), 2) for name, share in _SHARES.items()
        }

    async def _one(self, number: int, ends: asyncio.TaskGroup) -> None:
        placed = await self._caller.place(f"{self._order.prefix}{number + 1}", self._order.metadata)
        self.result.add(placed)
        self._latencies_ms.append(placed.latency_s * 1000)
        if placed.accepted and self._order.hold is not None:
            ends.create_task(self._end(placed.call_id, self._order.hold))
        self._told(self.result)

    async def _end(self, call_id: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if await self._caller.end(call_id):
            self.result.ended += 1
        else:
            self.result.not_ended += 1
        self._told(self.result)


async def _run(order: Order) -> Result:
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[refused]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    async with balancer(order.url) as caller:
        with bar:
            submitting = bar.add_task("submitting", total=order.calls, refused="")
            ending = None if order.hold is None else bar.add_task("ending", total=order.calls, refused="")

            def told(result: Result) -> None:
                refused = f"{result.refused} refused" if result.refused else ""
                bar.update(submitting, completed=result.accepted + result.refused, refused=refused)
                if ending is not None:
                    bar.update(ending, completed=result.ended + result.not_ended + result.refused)

            submission = _Submission(order, caller, told)
            await submission.run()
    return submission.result


def _show(order: Order, result: Result) -> None:
    statuses = ", ".join(f"{number} x {status}" for status, number in sorted(result.statuses.items()))
    states = ", ".join(f"{number} {state}" for state, number in sorted(result.states.items()))
    figures = ", ".join(f"{name} {value:.1f}" for name, value in result.latency_ms.items())
    rate = order.calls / result.seconds if result.seconds else 0.0
    click.echo(f"{count(order.calls, 'call')} in {result.seconds:.1f} s ({rate:.0f} a second) to {order.url}")
    click.echo(f"  answers     {statuses}{f'; {states}' if states else ''}")
    click.echo(f"  latency ms  {figures}")
    if result.repeated:
        click.echo(f"  repeated    {count(result.repeated, 'call')}: no answer at first, same key again")
    if order.hold is not None:
        missed = f", {result.not_ended} not (no answer)" if result.not_ended else ""
        click.echo(f"  ended       {count(result.ended, 'call')}{missed}")
    elif result.accepted:
        click.echo(
            f"  running on  {order.prefix}1 …: end one with curl -X DELETE {order.url}/calls/{order.prefix}1"
        )
    if result.refused:
        click.echo(f"  refused     {count(result.refused, 'call')}:", err=True)
        for problem, number in result.problems.most_common(_MOST_PROBLEMS):
            click.echo(f"    {number} x {problem}", err=True)


command = click.Command(
    "submit",
    callback=_submit,
    help="Submit calls to a balancer, and say how they were answered. Exit status 1 when one was refused.",
    short_help="Submit calls, with a latency summary.",
    params=[
        click.Option(
            ["--calls"],
            type=click.IntRange(1, 1_000_000),
            default=10,
            show_default=True,
            metavar="N",
            help="How many.",
        ),
        click.Option(
            ["--rate"],
            type=click.FloatRange(0),
            default=10.0,
            show_default=True,
            metavar="R",
            help="Calls a second; 0: as fast as they are answered.",
        ),
        url_option(),
        click.Option(
            ["--prefix"],
            default="",
            metavar="TEXT",
            help="Of the call ids. Default: a new one each time.",
        ),
        click.Option(
            ["--metadata"],
            default="{}",
            metavar="JSON",
            help="A JSON object for the calls' handler.",
        ),
        click.Option(
            ["--hold"],
            type=click.FloatRange(0),
            metavar="S",
            help="End each call after S seconds.",
        ),
        click.Option(["--end"], is_flag=True, help="End each call as soon as it was answered."),
        json_option("the summary"),
    ],
)
