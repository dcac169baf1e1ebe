"""Has the contestants of a contest measured, ours and theirs in turn."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import msgspec

from mediaflow.bench.contest import Contest, Contestant
from mediaflow.bench.figures import Pair
from mediaflow.bench.stage import Stage

QUICK_DEADLINE_S = 10.0
"""Of one measurement of another than ours in a quick run, which is to end within a minute though a peer hangs."""

Figures = Mapping[str, float] | str
"""What one measurement gave, by metric; or why there are none."""


class Duel(msgspec.Struct, kw_only=True):
    """Ours against one other, at one size: the pairs by metric, or why there are none.

    ``failure`` may also say why there are fewer pairs than rounds; ``alone`` is then what ours came to, by metric.
    """

    contest: str
    size: int
    ours: str
    other: str
    is_limit: bool = False
    pairs: dict[str, list[Pair]] = msgspec.field(default_factory=dict[str, list[Pair]])
    failure: str = ""
    alone: dict[str, float] = msgspec.field(default_factory=dict[str, float])


class Turn(NamedTuple):
    """A measurement that was made: for whoever shows how far we are."""

    contest: Contest
    contestant: str


def turns(contest: Contest, rounds: int, *, quick: bool) -> int:
    """Return how many measurements a contest takes at most."""
    asked = sum(
        other.bound is None or size <= other.bound.size
        for size in _sizes(contest, quick=quick)
        for other in contest.others
    )
    return rounds * 2 * (min(asked, 1) if quick else asked)


async def play(contest: Contest, stage: Stage, rounds: int, duels: list[Duel]) -> AsyncGenerator[Turn]:
    """Measure; yield each turn before it is taken, and note in ``duels`` what comes of all.

    Who goes first alternates from round to round. A quick run is beside the first other that can take part, and at the
    first size.
    """
    for size in _sizes(contest, quick=stage.quick):
        stage.size = size
        field = [_duel(contest, other, stage) for other in contest.others]
        if stage.quick:
            _leave_out_all_but_one(field)
        duels += field
        for number in range(rounds):
            for other, duel in zip(contest.others, field, strict=True):
                if duel.failure:
                    continue
                figures: dict[Contestant, Figures] = {}
                for contestant in (contest.ours, other) if number % 2 == 0 else (other, contest.ours):
                    yield Turn(contest, contestant.name)
                    impatient = stage.quick and contestant is other
                    deadline_s = QUICK_DEADLINE_S if impatient else contest.deadline_s
                    figures[contestant] = await _measure(contestant, stage, deadline_s)
                _note(contest, duel, other, figures)


def _sizes(contest: Contest, *, quick: bool) -> tuple[int, ...]:
    return contest.sizes[:1] if quick else contest.sizes


def _leave_out_all_but_one(field: Sequence[Duel]) -> None:
    """Most of a quick run is the starting of processes, and it has to show within a minute that each contest works."""
    able = [duel for duel in field if not duel.failure]
    for duel in able[1:]:
        duel.failure = "left out of a quick run"


def _duel(contest: Contest, other: Contestant, stage: Stage) -> Duel:
    return Duel(
        contest=contest.name,
        size=stage.size,
        ours=contest.ours.name,
        other=other.name,
        is_limit=other.is_limit,
        failure=_hindrance(other, stage),
    )


def _hindrance(other: Contestant, stage: Stage) -> str:
    """Return why a contestant is not measured at all; empty if it is."""
    missing = [package for package in other.packages if not is_installed(package)]
    if stage.quick and other.is_slow:
        return "takes too long for a quick run"
    if missing:
        return f"not installed: {', '.join(missing)}"
    if other.bound is not None and stage.size > other.bound.size:
        return f"not asked for more than {other.bound.size:,}: {other.bound.beyond}"
    return ""


def is_installed(package: str) -> bool:
    """Tell whether a distribution is installed."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


async def _measure(contestant: Contestant, stage: Stage, deadline_s: float) -> Figures:
    await stage.clear()
    try:
        async with asyncio.timeout(deadline_s):
            return await contestant.measure(stage)
    except TimeoutError:
        return f"no figure within {deadline_s:g} s"
    except Exception as error:  # noqa: BLE001 - whoever fails, in whatever way, stops nobody else
        return " ".join(str(error).split())[:300] or type(error).__name__


def _note(contest: Contest, duel: Duel, other: Contestant, figures: Mapping[Contestant, Figures]) -> None:
    ours, theirs = figures[contest.ours], figures[other]
    if isinstance(ours, str):
        duel.failure = f"{contest.ours.name}: {ours}"
    elif isinstance(theirs, str):
        duel.failure, duel.alone = theirs, dict(ours)
    else:
        for metric in contest.metrics:
            if metric.name in ours and metric.name in theirs:  # a limit may not have all of them
                pair = Pair(ours[metric.name], theirs[metric.name])
                duel.pairs.setdefault(metric.name, []).append(pair)
