"""Has the contestants of a contest measured, ours and theirs in turn."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import msgspec

from mediaflow.bench.contest import Contest, Contestant
from mediaflow.bench.figures import Pair
from mediaflow.bench.program import ProgramError
from mediaflow.bench.stage import Stage, Unfit

DEADLINE_S = 85.0
"""Of one measurement of one contestant."""

Told = Callable[[str], None]


class Duel(msgspec.Struct, kw_only=True):
    """Ours against one other, at one size: the pairs by metric, or why there are none.

    ``failure`` may also say why there are fewer pairs than rounds.
    """

    contest: str
    size: int
    ours: str
    other: str
    is_limit: bool = False
    pairs: dict[str, list[Pair]] = msgspec.field(default_factory=dict[str, list[Pair]])
    failure: str = ""


class Turn(NamedTuple):
    """A measurement that was made: for whoever shows how far we are."""

    contest: Contest
    contestant: str


def turns(contest: Contest, rounds: int, *, quick: bool) -> int:
    """Return how many measurements a contest takes at most."""
    sizes = contest.sizes[:1] if quick else contest.sizes
    each = 1 + len(contest.others) if quick else 2 * len(contest.others)
    return len(sizes) * rounds * each


async def play(contest: Contest, stage: Stage, rounds: int) -> AsyncGenerator[Turn | list[Duel]]:
    """Measure; yield each turn before it is taken, and at last what came of all.

    The one who goes first alternates from round to round. In a quick run all others of a round share one
    measurement of ours, and only the first size is asked.
    """
    duels: list[Duel] = []
    for size in contest.sizes[:1] if stage.quick else contest.sizes:
        stage.size = size
        field = [_duel(contest, other, size) for other in contest.others]
        duels += field
        for number in range(rounds):
            shared: Mapping[str, float] | None = None
            for other, duel in zip(contest.others, field, strict=True):
                if duel.failure:
                    continue
                figures: dict[str, Mapping[str, float]] = {}
                for contestant in (contest.ours, other) if number % 2 == 0 else (other, contest.ours):
                    if contestant is contest.ours and stage.quick and shared is not None:
                        figures["ours"] = shared
                        continue
                    yield Turn(contest, contestant.name)
                    try:
                        found = await _measure(contestant, stage)
                    except (ProgramError, Unfit, OSError, TimeoutError) as error:
                        duel.failure = f"{contestant.name}: {_reason(error)}"
                        break
                    figures["ours" if contestant is contest.ours else "other"] = found
                    if contestant is contest.ours:
                        shared = found
                if len(figures) == 2:
                    _note(contest, duel, figures["ours"], figures["other"])
    yield duels


def _duel(contest: Contest, other: Contestant, size: int) -> Duel:
    missing = [package for package in other.packages if not _installed(package)]
    return Duel(
        contest=contest.name,
        size=size,
        ours=contest.ours.name,
        other=other.name,
        is_limit=other.is_limit,
        failure=f"not installed: {', '.join(missing)}" if missing else "",
    )


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


async def _measure(contestant: Contestant, stage: Stage) -> Mapping[str, float]:
    await stage.clear()
    async with asyncio.timeout(DEADLINE_S):
        return await contestant.measure(stage)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"no figure within {DEADLINE_S:g} s"
    return str(error) or type(error).__name__


def _note(contest: Contest, duel: Duel, ours: Mapping[str, float], other: Mapping[str, float]) -> None:
    for metric in contest.metrics:
        if metric.name in ours and metric.name in other:  # a limit may not have all of them
            duel.pairs.setdefault(metric.name, []).append(Pair(ours[metric.name], other[metric.name]))
