"""The group of commands; each program's own comes from the program."""

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import click

from mediaflow import concurrency, loadbalancer, watchdog, worker
from mediaflow.cli import bench, call, completion, doctor, drain, plan, settings, status, submit, top, up
from mediaflow.web import program


def _version() -> str:
    try:
        return version("mediaflow")
    except PackageNotFoundError:
        return "(not installed: run from its source)"


@click.group(name="mediaflow", invoke_without_command=True)
@click.version_option(_version(), prog_name="mediaflow", message="%(prog)s %(version)s")
@click.pass_context
def group(context: click.Context) -> None:
    """Decides who runs a call, and how many streams may run.

    `mediaflow up --demo` shows it on this machine; the other commands are its parts.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    up.command,
    submit.command,
    status.command,
    settings.command,
    top.command,
    call.command,
    drain.command,
    bench.command,
    doctor.command,
    plan.command,
    worker.command,
    loadbalancer.command,
    watchdog.command,
    concurrency.command,
    completion.command,
):
    group.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mediaflow`; return the exit status."""
    return program.main(group, argv)


if __name__ == "__main__":
    sys.exit(main())
