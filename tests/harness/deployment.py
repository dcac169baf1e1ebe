"""What the files of config/ have the programs do, held against the command line and the settings that there are."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from harness.commands import COMMANDS
from mediaflow.settings import Settings, load
from mediaflow.web import hosting

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


def document(path: Path) -> dict[str, Any]:
    (found,) = documents(path)
    return found


def flags_of(words: Sequence[str]) -> dict[str, Any]:
    """Parse what stands behind ``mediaflow``, and return the settings in it; fails if our command line does."""
    name, *arguments = words
    assert name in COMMANDS, f"there is no `mediaflow {name}`"
    command = COMMANDS[name]
    with click.Context(command, info_name=name) as context:
        given, left, _ = command.make_parser(context).parse_args(list(arguments))
    assert not left, f"`mediaflow {name}` takes no {left}"
    return {name: value for name, value in given.items() if name in Settings.__struct_fields__}


def settings_of(words: Sequence[str], environ: Mapping[str, str], config: Path | None = None) -> Settings:
    """Return what a program would run with; fails where it would refuse to start."""
    settings = load(flags_of(words), environ, config)
    if words[0] == "worker":
        hosting.advertised(settings, hosting.Bound(settings.host, settings.port or 1))
    return settings


def longest_stop_s(settings: Settings) -> float:
    """Return how long a program may take from SIGTERM to its end, also if somebody sets drain = wait."""
    return hosting._DRAIN_GRACE_S + settings.drain_timeout + hosting._SHUTDOWN_TIMEOUT_S


def commands_in(text: str) -> list[list[str]]:
    """Return the words behind ``mediaflow`` of each command that a document tells people to type."""
    blocks = re.findall(r"^```shell\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    found = [
        re.search(
            r"(?:^|[ /])mediaflow ((?:status|submit|up|worker|watchdog|loadbalancer|concurrency)\b.*)", line
        )
        for line in lines
    ]
    return [shlex.split(match[1]) for match in found if match]


def parse_duration_s(text: str) -> float:
    """Return the seconds of ``30s`` or ``2m``."""
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60}[unit]
