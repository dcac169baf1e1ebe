"""``python -m mediaflow.testing``: as many simulated runs as are asked for, each from a seed of its own.

A run that breaks a promise is told with the command that repeats it.
"""

import sys

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mediaflow.testing.campaign import Outcome, run_many, told
from mediaflow.testing.history import transcript
from mediaflow.testing.run import run_seed
from mediaflow.testing.server import ENGINES

EXIT_BROKEN = 1


@click.command("mediaflow.testing")
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="How many runs.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--seed", type=click.IntRange(0), help="Run this one seed.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option(
    "--minutes", type=click.FloatRange(0), default=0.0, help="Go on past --seeds until so long has passed."
)
@click.option("--until-broken", is_flag=True, help="Stop at the first seed that breaks a promise.")
@click.option(
    "--engine",
    type=click.Choice(sorted(ENGINES)),
    default="subset",
    show_default=True,
    help="What stands for Redis.",
)
@click.option(
    "--transcript", "wants_transcript", is_flag=True, help="With --seed: print plan, history and logs."
)
def command(
    *,
    seeds: int,
    first: int,
    seed: int | None,
    jobs: int,
    minutes: float,
    until_broken: bool,
    engine: str,
    wants_transcript: bool,
) -> None:
    """Run the whole system in virtual time, with faults drawn from seeds, and check every promise."""
    if seed is not None:
        failures = _run_one(seed, engine, wants_transcript=wants_transcript)
    else:
        outcome = _run_many(first, seeds, jobs, engine, minutes, until_broken=until_broken)
        failures = outcome.failures
        rate = outcome.done / outcome.seconds
        click.echo(f"{outcome.done} seeds, {len(failures)} broken, {rate:.1f} a second on {jobs} processes")
    for failure in failures:
        click.echo(failure, err=True)
    if seed is not None and not failures:
        click.echo(f"seed {seed} breaks no promise")
    sys.exit(EXIT_BROKEN if failures else 0)


def _run_one(seed: int, engine: str, *, wants_transcript: bool) -> list[str]:
    verdict = run_seed(seed, engine)
    if wants_transcript:
        click.echo(f"# {verdict.plan}\n{transcript(verdict.history)}")
        for entry in verdict.logs:
            click.echo(f"# log: {entry}")
    return [told(verdict)] if verdict.violations else []


def _run_many(
    first: int, seeds: int, jobs: int, engine: str, minutes: float, *, until_broken: bool
) -> Outcome:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("seeds", total=seeds)

        def show(done: int, broken: int) -> None:
            progress.update(
                bar, completed=done, total=max(seeds, done), description=f"seeds, {broken} broken"
            )

        return run_many(
            first, seeds, jobs, engine, minutes=minutes, until_broken=until_broken, on_progress=show
        )


if __name__ == "__main__":
    command()
