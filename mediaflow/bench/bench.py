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


class Bench:
    """One run. What was measured can be told at any time, so that who stops it has what it took until then."""

    def __init__(self, contests: Sequence[Contest], rounds: int, *, quick: bool) -> None:
        """Observe what it is measured on.

        Raises:
            NoServerError: There is no Redis to measure with.
        """
        self._contests = contests
        self._rounds = rounds
        self._quick = quick
        self._conditions = observe(find(), peers(contests), quick=quick, rounds=rounds)
        self._played: list[tuple[Contest, list[Duel]]] = []
        self._finished = False

    async def run(self, told: Callable[[Turn], None]) -> None:
        """Have all contests played, and tell each turn before it is taken.

        Raises:
            EmbeddedStoreError: Redis does not start.
            asyncio.CancelledError: SIGTERM; nothing is left running.
        """
        task = asyncio.current_task()
        if task is not None:  # whoever stops us in order has what runs stopped in order too
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with stage(quick=self._quick) as ready:
            for contest in self._contests:
                duels: list[Duel] = []
                self._played.append((contest, duels))
                async for turn in play(contest, ready, self._rounds, duels):
                    told(turn)
        self._finished = True

    def report(self) -> Report:
        """Sum up what was measured so far; of a round, only what both came to."""
        return report(self._conditions, self._played, finished=self._finished)
