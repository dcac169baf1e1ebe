"""The command line of a program: flags from the settings, errors as one line, exit status.

Exit status: 0 after a drain, 1 when it could not start (port in use, bad host), 2 when it was called wrongly
(usage, settings, a namespace with other constants).
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import msgspec

from mediaflow.settings import Settings, SettingsError, describe, load
from mediaflow.telemetry import logs
from mediaflow.web import descriptors
from mediaflow.web.hosting import (
    DEFAULT_PORTS,
    EXIT_FAILED,
    EXIT_USAGE,
    Bound,
    Build,
    Hosted,
    Program,
    StartError,
    advertised,
    background,
    hosted,
    serve,
)

__all__ = [
    "COMMON_FLAGS",
    "DEFAULT_PORTS",
    "EXIT_FAILED",
    "EXIT_USAGE",
    "Bound",
    "Build",
    "Hosted",
    "Program",
    "StartError",
    "advertised",
    "background",
    "command",
    "hosted",
    "launch",
    "main",
    "serve",
    "setting_option",
]

COMMON_FLAGS = (
    "redis_url",
    "namespace",
    "partitions",
    "host",
    "port",
    "lease_ttl",
    "retention",
    "api_token",
    "log_level",
    "log_format",
)
"""Settings that are flags of every program."""

_FLAG_NAMES: Mapping[str, str] = {"redis_url": "--redis"}
_EXIT_INTERRUPTED = 130
_LONGEST_LINE = 1000


def command(
    name: str,
    run: Callable[..., Coroutine[Any, Any, None]],
    flags: Sequence[str],
    extra_params: Sequence[click.Parameter] = (),
    *,
    about: str = "",
    contribute: Callable[..., Mapping[str, Any]] | None = None,
) -> click.Command:
    """Make the command of a program.

    Args:
        name: As in ``mediaflow <name>``.
        run: The program: called with the settings, and the extra parameters by name.
        flags: Names of the settings that are flags besides :data:`COMMON_FLAGS`.
        extra_params: Parameters that are no settings.
        about: What the program does, for ``--help``.
        contribute: Called with the extra parameters; returns settings that hold where no flag is given.
    """
    wanted = tuple(dict.fromkeys((*flags, *COMMON_FLAGS)))
    options = [setting_option(setting) for setting in wanted]
    config = click.Option(
        ["--config"],
        type=click.Path(path_type=Path),
        help="A TOML file with settings; flags and the environment outrank it.",
    )

    def callback(config: Path | None, **given: Any) -> None:
        extra = {key: value for key, value in given.items() if key not in wanted}
        set_here = {key: given[key] for key in wanted if given[key] is not None}
        own: Mapping[str, Any] = contribute(**extra) if contribute else {}
        launch(lambda settings: run(settings, **extra), {**own, **set_here}, config)

    return click.Command(
        name, callback=callback, params=[*extra_params, *options, config], help=about, short_help=about
    )


def setting_option(name: str, default: str | None = None) -> click.Option:
    """Return the flag of a setting; its value is checked with all the others, by the settings.

    Args:
        name: Of the setting.
        default: What holds here without the flag, in words, where that is not the setting's own default.
    """
    own, about = describe()[name]
    if default is not None:
        own, about = default, about.partition(" Default: ")[0]
    shown = (
        "" if own in (None, "") else f" Default: {own:g}." if isinstance(own, float) else f" Default: {own}."
    )
    return click.Option(
        [_FLAG_NAMES.get(name, "--" + name.replace("_", "-")), name],
        metavar=_metavar(name),
        help=about + shown,
    )


def _metavar(name: str) -> str:
    kind = next(field.type for field in msgspec.structs.fields(Settings) if field.name == name)
    plain = getattr(kind, "__origin__", kind)
    if get_origin(plain) is Literal:
        return "|".join(get_args(plain))
    return {"redis_url": "URL", "port": "PORT", "host": "HOST", "advertise": "HOST:PORT"}.get(
        name, {int: "N", float: "S"}.get(plain, "TEXT")
    )


def launch(
    run: Callable[[Settings], Coroutine[Any, Any, None]],
    flags: Mapping[str, Any],
    config: Path | None = None,
) -> None:
    """Load settings, set up logging, and run a program's coroutine, on uvloop where there is one.

    The process may open more files from then on, see :mod:`mediaflow.web.descriptors`.

    Raises:
        SettingsError: As :func:`mediaflow.settings.load`.
        StartError: As :func:`serve`.
    """
    settings = load(flags, os.environ, config)
    logs.configure(settings.log_level, settings.log_format)
    descriptors.reach()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run(settings))


def main(command: click.Command, argv: Sequence[str] | None = None) -> int:
    """Run a command to its end and return the exit status; errors are one line on stderr."""
    name = "mediaflow" if command.name in (None, "mediaflow") else f"mediaflow {command.name}"
    try:
        status = command.main(None if argv is None else list(argv), prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        return _complain(context.command_path if context else name, error.format_message(), EXIT_USAGE)
    except SettingsError as error:
        return _complain(name, str(error), EXIT_USAGE)
    except StartError as error:
        return _complain(name, str(error), error.status)
    except (click.Abort, KeyboardInterrupt):
        return _EXIT_INTERRUPTED
    return status if isinstance(status, int) else 0


def _complain(name: str, message: str, status: int) -> int:
    words = " ".join(message.split())
    if len(words) > _LONGEST_LINE:
        words = f"{words[:_LONGEST_LINE]}…"  # what was typed may be of any length, and is repeated in it
    print(f"{name}: {words}", file=sys.stderr, flush=True)  # noqa: T201 - for people
    return status


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
