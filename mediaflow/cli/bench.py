"""`mediaflow bench`: our figures beside those of what a user would pick instead, and beside the physical limit."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mediaflow.bench.bench import Bench, lacking
from mediaflow.bench.contest import Contest, Contestant
from mediaflow.bench.contests import CONTESTS
from mediaflow.bench.match import Turn, turns
from mediaflow.bench.plot import NoPlots, library, plot
from mediaflow.bench.report import Report, conditions_line, drawn
from mediaflow.bench.stage import NoServerError, find
from mediaflow.cli import drawing
from mediaflow.store.embedded import EmbeddedStoreError
from mediaflow.web.hosting import EXIT_USAGE, StartError

DEFAULT_ROUNDS = 3


def _bench(
    only: tuple[str, ...],
    beside: tuple[str, ...],
    rounds: int | None,
    json_to: str | None,
    plot_to: Path | None,
    *,
    quick: bool,
    list_all: bool,
) -> int:
    if list_all:
        for contest in CONTESTS:
            click.echo(f"{contest.name:<12} {contest.title}")
        return 0
    contests = [
        contest._replace(others=others)
        for contest in CONTESTS
        if (not only or contest.name in only) and (others := _chosen(contest, beside))
    ]
    if not contests:
        raise StartError(f"nobody in these contests is called {' or '.join(beside)}", EXIT_USAGE)
    _check(contests, plots=plot_to is not None)
    rounds = rounds or (1 if quick else DEFAULT_ROUNDS)
    running = Bench(contests, rounds, quick=quick)
    try:
        _prepare(json_to, plot_to)
        try:
            _run(running, total=sum(turns(one, rounds, quick=quick) for one in contests))
        finally:  # an hour of measuring is not lost because its last minute failed, or was not waited for
            found = running.report()
            if found.lines or found.finished:
                _keep(found, json_to, plot_to)
    except OSError as error:
        # A file that could be opened and not be filled is not named by the error.
        what = "what was measured" if error.filename is None else repr(str(error.filename)[:200])
        raise StartError(f"cannot write {what}: {error.strerror}", EXIT_USAGE) from None
    return 0


def _chosen(contest: Contest, beside: tuple[str, ...]) -> tuple[Contestant, ...]:
    return tuple(
        other
        for other in contest.others
        if not beside or any(text.casefold() in other.name.casefold() for text in beside)
    )


def _check(contests: Sequence[Contest], *, plots: bool) -> None:
    """Complain before anything is measured if nobody could take part, or nothing be drawn afterwards."""
    try:
        find()
        if plots:
            library()
    except (NoServerError, NoPlots) as error:
        raise StartError(str(error), EXIT_USAGE) from None
    if missing := lacking(contests):
        raise StartError(f"not installed: {', '.join(missing)}; pip install 'mediaflow[bench]'", EXIT_USAGE)


def _prepare(json_to: str | None, plot_to: Path | None) -> None:
    """Find out before an hour of measuring, and not after it, that nothing can be written."""
    if json_to not in (None, "-"):
        Path(json_to).open("ab").close()
    if plot_to is not None:
        plot_to.mkdir(parents=True, exist_ok=True)


def _run(running: Bench, total: int) -> None:
    console = drawing.console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("starting", total=total)
        taken = -1

        def told(turn: Turn) -> None:
            nonlocal taken
            taken += 1
            progress.update(bar, completed=taken, description=f"{turn.contest.name}: {turn.contestant}")

        try:
            asyncio.run(running.run(told))
        except asyncio.CancelledError:
            raise click.Abort from None
        except EmbeddedStoreError as error:
            raise StartError(str(error)) from None


def _keep(found: Report, json_to: str | None, plot_to: Path | None) -> None:
    encoded = msgspec.json.encode(found)
    if json_to == "-":
        click.echo(encoded.decode())
    else:
        _show(found)  # first: a disk may be full
    if json_to not in (None, "-"):
        Path(json_to).write_bytes(encoded + b"\n")
    if plot_to is not None:
        for made in plot(found, plot_to):
            click.echo(made, err=True)
    if not found.finished:
        click.echo("stopped before everything was measured", err=True)


def _show(found: Report) -> None:
    console = drawing.console()
    for part in drawn(found, {contest.name: contest.title for contest in CONTESTS}):
        console.print(part)
    console.print(conditions_line(found.conditions), style="dim")


command = click.Command(
    "bench",
    callback=_bench,
    help=(
        "Measure this product beside what you would pick instead, and beside the physical limit: on this machine, in "
        "real processes, against a private redis-server, ours and theirs in turn. Peers need the extra: "
        "pip install 'mediaflow[bench]'."
    ),
    short_help="Measure beside peers and the physical limit.",
    params=[
        click.Option(
            ["--only"],
            multiple=True,
            type=click.Choice([contest.name for contest in CONTESTS]),
            help="A contest; may be given again. Default: all.",
        ),
        click.Option(
            ["--beside"],
            multiple=True,
            metavar="TEXT",
            help="Beside those alone whose name has this in it; may be given again.",
        ),
        click.Option(
            ["--rounds"],
            type=click.IntRange(1, 100),
            help=f"How many times each pair is measured. Default: {DEFAULT_ROUNDS}; in a quick run 1.",
        ),
        click.Option(
            ["--quick"], is_flag=True, help="Show within a minute that it works; its figures mean nothing."
        ),
        click.Option(
            ["--json", "json_to"],
            metavar="FILE",
            help="Write everything as JSON; - for stdout, in place of the tables.",
        ),
        click.Option(
            ["--plot", "plot_to"],
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Draw each contest there, as SVG.",
        ),
        click.Option(["--list", "list_all"], is_flag=True, help="List the contests."),
    ],
)
