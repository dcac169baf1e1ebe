"""`mediaflow up`: everything on this machine, with one command."""

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from mediaflow.settings import Settings, env_name, load
from mediaflow.supervisor.demo import DemoOptions
from mediaflow.supervisor.screen import Screen
from mediaflow.supervisor.up import UpOptions, run
from mediaflow.web.program import setting_option

_SETTINGS = (
    "redis_url",
    "host",
    "port",
    "slots",
    "lease_ttl",
    "namespace",
    "admission",
    "log_level",
)
_DEFAULTS = {"redis_url": "a private store", "port": "8080, of the balancer"}


def _start(
    workers: int,
    app: str,
    config: Path | None,
    *,
    demo: bool,
    calls: int | None,
    rate: float | None,
    seconds: float | None,
    **flags: Any,
) -> int:
    if not demo and any(value is not None for value in (calls, rate, seconds)):
        raise click.UsageError("--calls, --rate and --seconds belong to --demo: add it, or leave them out")
    settings = load(flags, os.environ, config)
    asked = DemoOptions()
    options = UpOptions(
        settings=settings,
        own_redis=_names_a_redis(settings, flags["redis_url"]),
        workers=workers,
        app=app,
        demo=DemoOptions(
            calls=asked.calls if calls is None else calls,
            rate=asked.rate if rate is None else rate,
            seconds=asked.seconds if seconds is None else seconds,
        )
        if demo
        else None,
    )
    return asyncio.run(run(options, Screen()))


def _names_a_redis(settings: Settings, flag: str | None) -> bool:
    """Tell whether the user named a Redis, be it the very default."""
    named = flag is not None or env_name("redis_url") in os.environ
    return named or settings.redis_url != Settings().redis_url


command = click.Command(
    "up",
    callback=_start,
    help=(
        "Run a balancer, workers, a watchdog and the concurrency service on this machine, with a private store "
        "unless --redis names one. Every other setting can be given as MEDIAFLOW_<NAME> or with --config."
    ),
    short_help="Run everything on this machine.",
    params=[
        click.Option(
            ["--workers"],
            type=click.IntRange(1, 64),
            default=3,
            show_default=True,
            metavar="N",
            help="Workers to run.",
        ),
        click.Option(["--app"], default="", metavar="MODULE:ATTR", help="What workers run for a session."),
        click.Option(["--demo"], is_flag=True, help="Submit calls, kill a worker now and then, and count."),
        click.Option(["--calls"], type=click.IntRange(1), metavar="N", help="Of the demo. Default: 60."),
        click.Option(
            ["--rate"], type=click.FloatRange(0), metavar="R", help="Calls a second. Default: 30; 0: at once."
        ),
        click.Option(
            ["--seconds"],
            type=click.FloatRange(0),
            metavar="S",
            help="How long the demo goes on when its calls are submitted. Default: until Ctrl-C.",
        ),
        *(setting_option(name, _DEFAULTS.get(name)) for name in _SETTINGS),
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            help="A TOML file with settings; flags and the environment outrank it.",
        ),
    ],
)
