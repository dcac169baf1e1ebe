"""`mediaflow plan`: what so many sessions and streams take, and why."""

import asyncio
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from mediaflow.bench.plan import costs as unit_costs
from mediaflow.bench.plan.answer import Limit, Sizing, figure
from mediaflow.bench.plan.costs import Costs, CostsError
from mediaflow.bench.plan.demand import Demand, DemandError
from mediaflow.bench.plan.measuring import measure
from mediaflow.bench.plan.programs import Unmeasurable
from mediaflow.bench.plan.sizing import size
from mediaflow.cli import drawing
from mediaflow.cli.asking import json_option
from mediaflow.web.hosting import EXIT_USAGE, StartError

_TIGHT = 0.5
"""From this share on, a limit is worth a warning."""


def _plan(*, costs: Path | None, save_costs: Path | None, as_json: bool, **asked: Any) -> int:
    try:
        demand = Demand(**asked)
        if save_costs is not None:
            unit_costs.check_place(save_costs)
        known = _measured() if costs is None else unit_costs.read(costs)
        if save_costs is not None:
            unit_costs.write(save_costs, known)
    except (DemandError, CostsError, Unmeasurable) as error:
        raise StartError(_spelled(str(error)), EXIT_USAGE) from None
    sizing = size(demand, known)
    if as_json:
        limits = [{**msgspec.to_builtins(limit), "share": limit.share} for limit in sizing.limits]
        shown = {**msgspec.to_builtins(sizing), "limits": limits, "holds": sizing.holds}
        click.echo(msgspec.json.encode(shown).decode())
    else:
        drawing.console().print(_report(sizing))
    return 0 if sizing.holds else 1


def _measured() -> Costs:
    console = drawing.console(stderr=True)
    bar = Progress(
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=1.0)

        def told(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)

        return asyncio.run(measure(told))


def _spelled(message: str) -> str:
    """Name the flag where the message names what it sets."""
    name = message.partition(" = ")[0]
    return message.replace(name, _FLAGS[name], 1) if name in _FLAGS else message


def _report(sizing: Sizing) -> RenderableType:
    parts: list[RenderableType] = [Text(_asked(sizing.demand)), Text()]
    for found in sizing.figures:
        number = drawing.MISSING if found.number is None else f"{found.number:,}"
        head = Text.assemble((f"{number:>8}", "bold green"), (f"  {found.name}", "bold"))
        if found.number is None:
            head.append(": no number is enough", "bold red")
        parts.append(head)
        parts += [Padding(Text(line, "dim"), (0, 0, 0, 10)) for line in found.because]
    if sizing.limits:
        parts += [Text(), Text(_verdict(sizing.limits), "bold"), _limits(sizing.limits)]
    parts += [Text(), Text(f"Costs of {sizing.costs.machine}. µs are processor time, B are bytes.", "dim")]
    return Group(*parts)


def _asked(demand: Demand) -> str:
    calls = f"{demand.sessions:,} sessions in calls of {demand.call_minutes:g} min, leases of {demand.lease_ttl_s:g} s"
    streams = f"{demand.streams:,} streams that beat every {demand.stream_heartbeat_s:g} s"
    asked = [calls] if demand.sessions else []
    asked += [streams] if demand.streams else []
    return f"{'; '.join(asked)}. No process uses more than {demand.utilisation:.0%} of a core."


def _verdict(limits: tuple[Limit, ...]) -> str:
    first = limits[0]
    if first.share > 1:
        broken = [limit.name for limit in limits if limit.share > 1]
        return f"This breaks: {', '.join(broken)}."
    if not first.share:
        return "Nothing breaks."
    return f"Nothing breaks. The first to break is {first.name}, at {1 / first.share:.2g} times as much."


def _limits(limits: tuple[Limit, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("what does not grow with machines", overflow="fold", ratio=3)
    table.add_column("remedy", overflow="fold", ratio=2)
    for limit in limits:
        style = "bold red" if limit.share > 1 else "yellow" if limit.share >= _TIGHT else "green"
        needs = f"{limit.name}: {figure(limit.needs)} of {figure(limit.allows)} {limit.unit}"
        what = Text.assemble(needs, "\n", (limit.because, "dim"))
        table.add_row(Text(f"{limit.share:.0%}", style), what, Text(limit.remedy, "dim"))
    return table


def _option(flag: str, name: str, about: str, *, metavar: str = "N") -> click.Option:
    """Return the flag of something that is asked for; its bounds are checked with all the others."""
    asked = next(field for field in msgspec.structs.fields(Demand) if field.name == name)
    return click.Option(
        [flag, name],
        type=int if asked.type is int else float,
        default=asked.default,
        show_default=True,
        metavar=metavar,
        help=about,
    )


_OPTIONS = [
    _option("--sessions", "sessions", "Live at any time. Underscores may group the digits of any number."),
    _option("--streams", "streams", "Live at any time."),
    _option("--call-minutes", "call_minutes", "Mean length of a call.", metavar="MIN"),
    _option("--lease-ttl", "lease_ttl_s", "Of sessions; renewed each third of it.", metavar="S"),
    _option("--stream-minutes", "stream_minutes", "Mean length of a stream.", metavar="MIN"),
    _option("--stream-heartbeat", "stream_heartbeat_s", "Between heartbeats of a stream.", metavar="S"),
    _option("--slots", "slots", "Sessions in one worker process at most."),
    _option(
        "--handler-us",
        "handler_us",
        "Processor time of your handler for one session, each second.",
        metavar="US",
    ),
    _option("--retention", "retention_s", "How long an ended call is remembered.", metavar="S"),
    _option("--partitions", "partitions", "Of the namespace."),
    _option("--utilisation", "utilisation", "Share of a core that a process may use.", metavar="SHARE"),
    _option("--shard-memory", "shard_gib", "Of one Redis.", metavar="GIB"),
    _option("--worker-memory", "worker_gib", "Of one worker process.", metavar="GIB"),
    _option("--network", "network_gbit", "What a shard's network carries.", metavar="GBIT"),
    _option("--redis-clients", "clients", "Connections that one Redis takes (maxclients)."),
    _option("--files", "files", "Files that one process may have open (LimitNOFILE)."),
    _option("--spares", "spares", "Balancers, watchdogs and concurrency services beyond what it takes."),
]
_FLAGS = {str(option.name): option.opts[0] for option in _OPTIONS}

command = click.Command(
    "plan",
    callback=_plan,
    help=(
        "Say how many workers, balancers, watchdogs and Redis shards so many sessions and streams take, with the "
        "derivation of each figure, and what breaks first. What each step costs is measured here, within half a "
        "minute, against a private redis-server; or read from a file. Exit status 1 if something breaks."
    ),
    short_help="What a fleet takes, from what each step costs here.",
    params=[
        *_OPTIONS,
        click.Option(
            ["--costs"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Costs that were measured before; nothing is measured now.",
        ),
        click.Option(
            ["--save-costs"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Write the costs there, as JSON.",
        ),
        json_option("all of it"),
    ],
)
