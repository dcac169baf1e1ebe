"""One run of the bench, from the stage to the report."""

import asyncio
import signal
from collections.abc import Callable, Sequence

from mediaflow.bench.conditions import observe
from mediaflow.bench.contest import Contest
from mediaflow.bench.match import Duel, Turn, is_installed, play
from mediaflow.bench.report import Report, report
from mediaflow.bench.stage import find, stage


def peers(contests: Sequence[Contest]) -> list[str]:
    """Return the distributions that the contestants need."""
    return [
        package
        for contest in contests
        for contestant in (contest.ours, *contest.others)
        for package in contestant.packages
    ]


def lacking(contests: Sequence[Contest]) -> list[str]:
    """Return what the peers need, if nothing of it is installed; a peer that is missing alone is told with the rest."""
    wanted = list(dict.fromkeys(peers(contests)))
    missing = [package for package in wanted if not is_installed(package)]
    return missing if len(missing) == len(wanted) else []


async def bench(
    contests: Sequence[Contest], rounds: int, *, quick: bool, told: Callable[[Turn], None]
) -> Report:
    """Have all contests played, and tell each turn before it is taken.

    Raises:
        NoServerError: There is no Redis to measure with.
        EmbeddedStoreError: It does not start.
        asyncio.CancelledError: SIGTERM; nothing is left running.
    """
    task = asyncio.current_task()
    if task is not None:  # whoever stops us in order has what runs stopped in order too
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    conditions = observe(find(), peers(contests), quick=quick, rounds=rounds)
    played: list[tuple[Contest, list[Duel]]] = []
    async with stage(quick=quick) as ready:
        for contest in contests:
            async for step in play(contest, ready, rounds):
                if isinstance(step, Turn):
                    told(step)
                else:
                    played.append((contest, step))
    return report(conditions, played)
