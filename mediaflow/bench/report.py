"""What came of a run, as JSON and as tables. Pure but for the terminal that it is drawn on."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mediaflow.bench.conditions import Conditions
from mediaflow.bench.contest import Contest, Metric
from mediaflow.bench.figures import TIE, Pair, Spread, advantages, spread
from mediaflow.bench.match import Duel


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Ours against one other in one metric: medians, spreads, and how many times better ours is.

    ``advantage``: None where a figure is nothing, and a ratio no number.
    """

    contest: str
    size: int
    axis: str
    metric: str
    unit: str
    better: str
    ours_name: str
    other_name: str
    is_limit: bool
    ours: Spread
    other: Spread
    advantage: Spread | None
    pairs: list[Pair]


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of ours that there is none to compare with."""

    metric: str
    unit: str
    value: float


class Absence(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who could not be measured, or not in all rounds, and why.

    ``ours``: our figures of that round, if it was only the other that failed.
    """

    contest: str
    size: int
    other_name: str
    reason: str
    ours: list[Alone] = []


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run; printed as it is with ``--json``.

    ``finished``: It was not stopped before everything was measured.
    """

    conditions: Conditions
    finished: bool
    lines: list[Line]
    absences: list[Absence]


def report(
    conditions: Conditions, played: Sequence[tuple[Contest, Sequence[Duel]]], *, finished: bool = True
) -> Report:
    """Sum up what was measured."""
    lines: list[Line] = []
    absences: list[Absence] = []
    for contest, duels in played:
        for duel in duels:
            lines += _lines(contest, duel)
            if duel.failure:
                absences.append(
                    Absence(
                        contest=duel.contest,
                        size=duel.size,
                        other_name=duel.other,
                        reason=duel.failure,
                        ours=_alone(contest, duel),
                    )
                )
    return Report(conditions=conditions, finished=finished, lines=lines, absences=absences)


def _alone(contest: Contest, duel: Duel) -> list[Alone]:
    return [
        Alone(metric=metric.name, unit=metric.unit, value=duel.alone[metric.name])
        for metric in contest.metrics
        if metric.name in duel.alone
    ]


def _lines(contest: Contest, duel: Duel) -> Iterator[Line]:
    for metric in contest.metrics:
        pairs = duel.pairs.get(metric.name)
        if pairs:
            yield _line(contest, duel, metric, pairs)


def _line(contest: Contest, duel: Duel, metric: Metric, pairs: list[Pair]) -> Line:
    return Line(
        contest=duel.contest,
        size=duel.size,
        axis=contest.axis,
        metric=metric.name,
        unit=metric.unit,
        better=metric.better,
        ours_name=duel.ours,
        other_name=duel.other,
        is_limit=duel.is_limit,
        ours=spread([pair.ours for pair in pairs]),
        other=spread([pair.other for pair in pairs]),
        advantage=advantages(pairs, metric.better),
        pairs=pairs,
    )


def drawn(told: Report, titles: Mapping[str, str]) -> Iterator[RenderableType]:
    """Draw each contest that was played: its title, a table, and who could not be measured."""
    for name, title in titles.items():
        lines = [line for line in told.lines if line.contest == name]
        absences = [absence for absence in told.absences if absence.contest == name]
        if not lines and not absences:
            continue
        yield Text(f"{name}: {title}", "bold")
        if lines:
            yield _table(lines)
        for absence in absences:
            yield Text(f"{absence.other_name}: {absence.reason}", "yellow")
            if absence.ours:
                alone = ", ".join(f"{one.metric} {figure(one.value, one.unit)}" for one in absence.ours)
                yield Text(f"ours in that round: {alone}")
        yield ""


def _table(lines: Sequence[Line]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    for heading in ("ours", "theirs", "ours is better by"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("beside", overflow="fold")
    for line in lines:
        size = f" at {line.size:,}" if line.size else ""
        beside = Text(line.other_name)
        if line.is_limit:
            beside.append(" (limit)", "dim")
        ours, other = (figure(one.median, line.unit) for one in (line.ours, line.other))
        table.add_row(f"{line.metric}{size}", ours, other, _times(line), beside)
    return table


def _times(line: Line) -> Text:
    ratio = line.advantage
    if ratio is None:
        return Text("–", "dim")
    told = Text(f"{ratio.median:.2g} ×", "" if line.is_limit else _style(ratio.median))
    if len(line.pairs) > 1:
        told.append(f" ({ratio.low:.2g}–{ratio.high:.2g})", "dim")
    return told


def _style(ratio: float) -> str:
    return "green" if ratio >= TIE else "red" if ratio <= 1 / TIE else "dim"


def figure(value: float, unit: str) -> str:
    """Return a figure to three digits: ``0.62 ms``, ``15,600 /s``."""
    shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{shown} {unit}".rstrip()


def conditions_line(conditions: Conditions) -> str:
    """Say the conditions in one paragraph."""
    versions = ", ".join(f"{name} {told or 'missing'}" for name, told in conditions.packages.items())
    run = "quick run: figures mean nothing" if conditions.quick else f"rounds: {conditions.rounds}"
    return (
        f"{conditions.cpu}, {conditions.cores} cores, load average {conditions.load_average:g} at the start, "
        f"{conditions.system}, {conditions.python}, {conditions.redis_server}; {versions}; {run}"
    )
