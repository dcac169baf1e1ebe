"""`mediaflow doctor`: is this Redis, as it is set up, fit for calls?"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
from rich.text import Text

from mediaflow.cli import drawing
from mediaflow.cli.asking import json_option, print_json
from mediaflow.cli.diagnosis import Check, Expected, judge
from mediaflow.runtime.clock import SystemClock
from mediaflow.settings import Settings, load
from mediaflow.store.examination import Findings, examine
from mediaflow.supervisor.figures import count
from mediaflow.web import descriptors
from mediaflow.web.hosting import StartError
from mediaflow.web.program import setting_option

DEADLINE_S = 60.0
_SETTINGS = ("redis_url", "namespace", "partitions", "slots", "durability_replicas")
_MOST_WAITING = Path("/proc/sys/net/core/somaxconn")
_STYLES = {"ok": "green", "warn": "yellow", "bad": "bold red"}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown; printed as it is with ``--json``. ``fit`` if nothing is bad."""

    redis: str
    fit: bool
    checks: list[Check]


def _doctor(config: Path | None, *, as_json: bool, **flags: str | None) -> int:
    settings = load(flags, os.environ, config)
    with drawing.console(stderr=True).status("examining") as shown:
        findings = asyncio.run(_examine(settings, lambda what: shown.update(f"examining: {what}")))
    checks = judge(findings, _expected(settings))
    bad = [check for check in checks if check.level == "bad"]
    if as_json:
        print_json(Report(redis=findings.address, fit=not bad, checks=checks))
    else:
        _show(checks)
    if bad:
        raise StartError(f"{count(len(bad), 'check')} bad: {', '.join(check.name for check in bad)}")
    return 0


async def _examine(settings: Settings, told: Callable[[str], None]) -> Findings:
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await examine(settings, SystemClock().wall_ms, told)
    except TimeoutError:
        raise StartError(f"Redis could not be examined within {DEADLINE_S:g} s: it is too slow") from None


def _expected(settings: Settings) -> Expected:
    return Expected(
        namespace=settings.namespace,
        partitions=settings.partitions,
        replicas=settings.durability_replicas,
        slots=settings.slots,
        descriptors=descriptors.reachable(),
        waiting=_waiting(),
    )


def _waiting() -> int | None:
    """Return how many connections may wait to be accepted, None on a host that does not say it as Linux does."""
    try:
        return int(_MOST_WAITING.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _show(checks: list[Check]) -> None:
    console = drawing.console()
    table = drawing.table("", "what", "found")
    table.show_header = False
    table.columns[2].no_wrap, table.columns[2].overflow = False, "fold"
    for check in checks:
        found = Text(check.found)
        if check.advice:
            found.append(f"\n→ {check.advice}", "dim" if check.level == "ok" else "")
        table.add_row(Text(check.level, _STYLES[check.level]), check.name, found)
    console.print(table)


command = click.Command(
    "doctor",
    callback=_doctor,
    help=(
        "Examine Redis and this host: is it reached, what version, will it forget calls, is it fast, may the programs "
        "do there what they must? Each line says what to do. Nothing is changed: what it writes is its own, and "
        "removed. Exit status 1 if something is bad."
    ),
    short_help="Examine Redis and this host, and say what to do.",
    params=[
        *(setting_option(name) for name in _SETTINGS),
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            help="A TOML file with settings; flags and the environment outrank it.",
        ),
        json_option("all of it"),
    ],
)
