"""`mediaflow status`: the instances, and how many calls are in which state."""

import asyncio
import os
from collections import Counter
from pathlib import Path

import click
import msgspec
from rich.table import Table

from mediaflow.api.messages import InstanceView
from mediaflow.cli import drawing
from mediaflow.cli.asking import DEFAULT_URL, balancer, json_option, print_json
from mediaflow.settings import Settings, env_name, load
from mediaflow.store import NamespaceMismatch, Store, StoreError, open_store
from mediaflow.supervisor.caller import Unreachable
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
    ask = _ask_store(settings) if named and not url else _ask_balancer(url or DEFAULT_URL, named=bool(url))
    try:
        with drawing.console(stderr=True).status("counting calls"):
            found = asyncio.run(ask)
    except TimeoutError:
        raise StartError(f"no complete answer within {_DEADLINE_S:g} s") from None
    if as_json:
        print_json(found)
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


async def _ask_balancer(url: str, *, named: bool) -> Status:
    states: Counter[str] = Counter()
    try:
        async with asyncio.timeout(_DEADLINE_S), balancer(url) as caller:
            instances = await caller.instances()
            async for call in caller.calls(page=_PAGE):
                states[call.state] += 1
    except Unreachable as error:
        hint = "" if named else ", or ask Redis itself with --redis URL"
        raise StartError(f"{error}{hint}") from None
    return Status(source=url, instances=instances, calls=_in_order(states))


def _in_order(states: Counter[str]) -> dict[str, int]:
    return {state: states[state] for state in STATES}


def _show(found: Status) -> None:
    console = drawing.console()
    if not found.instances:
        console.print("no live instance: start one with `mediaflow worker`")
    else:
        console.print(_table(found.instances))
    slots = sum(view.slots for view in found.instances)
    used = sum(view.used for view in found.instances)
    console.print(f"\n{count(len(found.instances), 'instance')}, {used} of {slots} slots used")
    known = {state: number for state, number in found.calls.items() if number}
    parts = ", ".join(f"{number:,} {state}" for state, number in known.items())
    console.print(f"{count(sum(known.values()), 'call')}{': ' + parts if parts else ''}")
    if note := _note(found):
        console.print(note, style="yellow")


def _note(found: Status) -> str:
    """Say why calls wait; empty if none does, or if nothing is known to be wrong."""
    pending = found.calls["pending"]
    if not pending:
        return ""
    ready = [view for view in found.instances if view.state == "ready"]
    free = sum(max(0, view.slots - view.used) for view in ready)
    waits = f"{count(pending, 'call')} {'waits' if pending == 1 else 'wait'}"
    if not ready:
        return f"{waits}: no instance takes calls; start one with `mediaflow worker`"
    if not free:
        return f"{waits} for a slot: start more workers, or give them more --slots"
    return (
        f"{waits} though {count(free, 'slot')} seem free: if that lasts, see that a `mediaflow watchdog` runs"
    )


def _table(instances: list[InstanceView]) -> Table:
    table = drawing.table(
        "instance", "state", "slots", "used", "of", "heartbeat", "address", right=("used", "of", "heartbeat")
    )
    for column in ("instance", "address"):
        found = next(one for one in table.columns if one.header == column)
        found.no_wrap, found.overflow = False, "fold"
    table.columns[0].max_width = 30
    for view in instances:
        table.add_row(
            view.instance_id,
            drawing.state(view.state),
            drawing.slots(view.used, view.slots, 12),
            f"{view.used:,}",
            f"{view.slots:,}",
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
        click.Option(
            ["--url"],
            metavar="URL",
            envvar="MEDIAFLOW_URL",
            show_envvar=True,
            help=f"Ask this balancer. Default: {DEFAULT_URL}.",
        ),
        setting_option("redis_url", "a balancer is asked instead"),
        setting_option("namespace"),
        setting_option("partitions"),
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            help="A TOML file with settings; flags and the environment outrank it.",
        ),
        json_option("all of it"),
    ],
)
