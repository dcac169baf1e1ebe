"""`mediaflow settings`: what holds here, and where it comes from."""

import os
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mediaflow.settings import SECRETS, Settings, describe, env_name, load_with_origins
from mediaflow.store.address import hide_password


class Shown(msgspec.Struct, frozen=True, kw_only=True, rename={"origin": "from"}):
    """One setting as it holds here; printed as it is with ``--json``. ``origin`` is empty for a default."""

    name: str
    variable: str
    value: Any
    default: Any
    origin: str
    about: str


def shown(settings: Settings, name: str, origin: str) -> Shown:
    """Return a setting as it may be shown to anybody: no secret, and no password in a URL."""
    value = getattr(settings, name)
    if name == "redis_url":
        value = hide_password(value)
    elif name in SECRETS and value:
        value = "(hidden)"
    default, about = describe()[name]
    return Shown(name=name, variable=env_name(name), value=value, default=default, origin=origin, about=about)


def _settings(config: Path | None, *, as_json: bool) -> int:
    settings, origins = load_with_origins({}, os.environ, config)
    found = [shown(settings, name, origins.get(name, "")) for name in describe()]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        Console(highlight=False).print(_table(found))
    return 0


def _table(found: list[Shown]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", overflow="fold")
    for one in found:
        value = Text(written(one.value))
        table.add_row(one.name, value, Text(one.origin or "default"), style=None if one.origin else "dim")
    return table


def written(value: Any) -> str:
    """Return a value as the settings file would have it; empty for none."""
    if value is None:
        return ""
    if isinstance(value, bool | list | tuple):
        return msgspec.json.encode(value).decode()
    return str(value)


command = click.Command(
    "settings",
    callback=_settings,
    help=(
        "Show every setting with the value that a program started here would have, and where it comes from: the "
        "environment, the settings file or the default. A program's flags outrank them. Secrets are not shown."
    ),
    short_help="Show all settings, and where they come from.",
    params=[
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            help="A TOML file with settings; the environment outranks it.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print as JSON."),
    ],
)
