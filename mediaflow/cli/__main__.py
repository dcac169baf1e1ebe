"""The group of commands; each program's own comes from the program."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import click

from mediaflow.web import program

_PROGRAMS = ("worker", "loadbalancer", "watchdog", "concurrency")
_OURS = (
    "bench",
    "call",
    "completion",
    "doctor",
    "drain",
    "plan",
    "settings",
    "status",
    "submit",
    "top",
    "up",
)
_HOMES = {
    **{name: f"mediaflow.{name}.app" for name in _PROGRAMS},
    **{name: f"mediaflow.cli.{name}" for name in _OURS},
}


class _Commands(click.Group):
    """Imports a command when it is wanted: together they take longer to load than most of them take to run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all."""
        del ctx
        return sorted(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, None if there is none."""
        del ctx
        return import_module(_HOMES[cmd_name]).command if cmd_name in _HOMES else None


def _version() -> str:
    try:
        return version("mediaflow")
    except PackageNotFoundError:
        return "(not installed: run from its source)"


@click.group(name="mediaflow", cls=_Commands, invoke_without_command=True)
@click.version_option(_version(), prog_name="mediaflow", message="%(prog)s %(version)s")
@click.pass_context
def group(context: click.Context) -> None:
    """Decides who runs a call, and how many streams may run.

    `mediaflow up --demo` shows it on this machine; the other commands are its parts.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mediaflow`; return the exit status."""
    return program.main(group, argv)


if __name__ == "__main__":
    sys.exit(main())
