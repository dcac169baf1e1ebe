"""What the commands share that ask a balancer: where it is, the token, and how its silence is told."""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import click
import msgspec

from mediaflow.settings import load
from mediaflow.supervisor.caller import Caller, Unreachable
from mediaflow.web.hosting import StartError

_T = TypeVar("_T")

DEFAULT_URL = "http://127.0.0.1:8080"


def url_option() -> click.Option:
    """Return ``--url``."""
    return click.Option(
        ["--url"],
        default=DEFAULT_URL,
        show_default=True,
        metavar="URL",
        envvar="MEDIAFLOW_URL",
        show_envvar=True,
        help="Where the balancer is.",
    )


def json_option(what: str) -> click.Option:
    """Return ``--json``."""
    return click.Option(["--json", "as_json"], is_flag=True, help=f"Print {what} as JSON.")


@asynccontextmanager
async def balancer(url: str) -> AsyncGenerator[Caller]:
    """Give a client of the balancer at ``url``, which answers.

    Raises:
        Unreachable: It does not; the message says what to do.
        SettingsError: The settings, of which the token is one, are wrong.
    """
    async with Caller(url, api_token=load({}, os.environ).api_token) as caller:
        await caller.check()
        yield caller


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Carry out what a command asks of a balancer.

    Raises:
        StartError: There was no answer, or none that is of use; the message is one line for people.
    """
    try:
        return asyncio.run(work)
    except Unreachable as error:
        raise StartError(str(error)) from None


def print_json(found: msgspec.Struct) -> None:
    """Print a report as one line of JSON."""
    click.echo(msgspec.json.encode(found).decode())
