"""`mediaflow status`: the instances, and how many calls are in which state."""

import asyncio
import os
from collections import Counter
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from mediaflow.api.messages import InstanceView
from mediaflow.cli.submit import DEFAULT_URL
from mediaflow.settings import Settings, env_name, load
from mediaflow.store import NamespaceMismatch, Store, StoreError, open_store
from mediaflow.supervisor.caller import Caller, Unreachable
from mediaflow.supervisor.figures import count
from mediaflow.web.hosting import EXIT_USAGE, StartError
from mediaflow.web.program import setting_option

STATES = ("active", "pending", "completed", "failed", "cancelled", "yielded")
_PAGE = 500
_DEADLINE_S = 30.0


class Status(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is shown; printed as it is with ``--json``."""

    source: str
    instances: list[InstanceView]
    calls: dict[str, int]


def _status(url: str | None, config: Path | None, *, as_json: bool, **flags: str | None) -> int:
    if url and flags["redis_url"]:
        raise click.UsageError("--redis and --url exclude each other: give the one that you want to ask")
    settings = load(flags, os.environ, config)
    named = flags["redis_url"] or env_name("redis_url") in os.environ
    try:
        found = asyncio.run(
            _ask_store(settings)
            if named and not url
            else _ask_balancer(url or DEFAULT_URL, settings, named=bool(url))
        )
    except TimeoutError:
        raise StartError(f"no complete answer within {_DEADLINE_S:g} s") from None
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        _show(found)
    return 0


async def _ask_store(settings: Settings) -> Status:
    async with asyncio.timeout(_DEADLINE_S):
        store = await open_store(settings)
        try:
            await store.check()
            records = [record for record in await store.instances() if record.alive]
            states = await _count_in_store(store)
        except NamespaceMismatch as error:
            raise StartError(str(error), EXIT_USAGE) from None
        except StoreError as error:
            raise StartError(str(error)) from None
        finally:
            await store.close()
    instances = [
        InstanceView(
            instance_id=record.instance_id,
            address=record.address or None,
            slots=record.slots,
            used=record.used,
            state=record.state,
            heartbeat_age_ms=record.heartbeat_age_ms,
        )
        for record in sorted(records, key=lambda record: record.instance_id)
    ]
    return Status(source="Redis", instances=instances, calls=_in_order(states))


async def _count_in_store(store: Store) -> Counter[str]:
    states: Counter[str] = Counter()
    cursor: str | None = None
    while True:
        page = await store.calls(state=None, cursor=cursor, limit=_PAGE, timeout_s=5)
        states.update(call.state for call in page.calls)
        cursor = page.cursor
        if cursor is None:
            return states


async def _ask_balancer(url: str, settings: Settings, *, named: bool) -> Status:
    states: Counter[str] = Counter()
    try:
        async with asyncio.timeout(_DEADLINE_S), Caller(url, api_token=settings.api_token) as caller:
            await caller.check()
            instances = await caller.instances()
            async for call in caller.calls():
                states[call.state] += 1
    except Unreachable as error:
        hint = "" if named else ", or ask Redis itself with --redis URL"
        raise StartError(f"{error}{hint}") from None
    return Status(source=url, instances=instances, calls=_in_order(states))


def _in_order(states: Counter[str]) -> dict[str, int]:
    return {state: states[state] for state in STATES}


def _show(found: Status) -> None:
    console = Console(highlight=False)
    if not found.instances:
        console.print("no live instance: start one with `mediaflow worker`")
    else:
        console.print(_table(found.instances))
    slots = sum(view.slots for view in found.instances)
    used = sum(view.used for view in found.instances)
    console.print(f"\n{count(len(found.instances), 'instance')}, {used} of {slots} slots used")
    known = {state: number for state, number in found.calls.items() if number}
    parts = ", ".join(f"{number} {state}" for state, number in known.items())
    console.print(f"{count(sum(known.values()), 'call')}{': ' + parts if parts else ''}")


def _table(instances: list[InstanceView]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("instance", overflow="fold", max_width=30)
    table.add_column("state")
    table.add_column("used", justify="right")
    table.add_column("slots", justify="right")
    table.add_column("heartbeat", justify="right")
    table.add_column("address", overflow="fold")
    for view in instances:
        table.add_row(
            view.instance_id,
            view.state,
            str(view.used),
            str(view.slots),
            f"{view.heartbeat_age_ms / 1000:.1f} s ago",
            view.address or "(embedded)",
        )
    return table


command = click.Command(
    "status",
    callback=_status,
    help="Show the instances and count the calls by state, as a balancer or Redis knows them.",
    short_help="Show instances and calls.",
    params=[
        click.Option(["--url"], metavar="URL", help=f"Ask this balancer. Default: {DEFAULT_URL}."),
        setting_option("redis_url", "a balancer is asked instead"),
        setting_option("namespace"),
        setting_option("partitions"),
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            help="A TOML file with settings; flags and the environment outrank it.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print as JSON."),
    ],
)
