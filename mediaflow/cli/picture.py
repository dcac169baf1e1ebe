"""The picture that `mediaflow top` draws, as large as the terminal and no larger. Pure."""

from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mediaflow.api.messages import EventView, InstanceView
from mediaflow.cli import drawing
from mediaflow.cli.board import Board, Row
from mediaflow.supervisor.figures import count

_UNBOUNDED = 50
_FRAME = 10
"""Lines that are neither an instance nor a session nor an event: headings, totals, what is not shown."""

_NARROW = 100


class Picture(NamedTuple):
    """What is to be drawn; ``trouble`` is why it may be old, or empty; ``reading``: the calls are still being read."""

    source: str
    instances: list[InstanceView]
    board: Board
    trouble: str = ""
    reading: bool = False


class Shares(NamedTuple):
    """How many lines each part gets."""

    instances: int
    sessions: int
    events: int


def shares(height: int | None, instances: int, sessions: int, events: int) -> Shares:
    """Divide the height: a third at most for instances, a quarter for events, the rest for sessions.

    Args:
        height: Of the terminal; None where it has no end.
        instances: How many there are.
        sessions: Likewise.
        events: Likewise.
    """
    if height is None:
        return Shares(min(instances, _UNBOUNDED), min(sessions, _UNBOUNDED), min(events, 10))
    room = max(3, height - _FRAME)
    shown_events = min(events, max(1, room // 4))
    shown_instances = min(instances, max(1, room // 3))
    shown_sessions = min(sessions, max(1, room - shown_events - shown_instances))
    # What the sessions leave, instances may have.
    shown_instances = min(instances, max(1, room - shown_events - shown_sessions))
    return Shares(shown_instances, shown_sessions, shown_events)


def draw(picture: Picture, width: int, height: int | None) -> RenderableType:
    """Draw it."""
    board = picture.board
    lines = shares(height, len(picture.instances), len(board), len(board.events))
    parts: list[RenderableType] = [_title(picture, live=height is not None)]
    if picture.trouble:
        parts.append(
            Text(f"not up to date: {picture.trouble}", "bold red", no_wrap=True, overflow="ellipsis")
        )
    parts += [Rule(style="dim"), *_instances(picture.instances, lines.instances, width)]
    nothing = "reading calls …" if picture.reading else "no live session: try `mediaflow submit`"
    parts += [Rule(style="dim"), *_sessions(board, lines.sessions, width, nothing)]
    if height is not None:
        parts += [Rule(style="dim"), *_events(list(board.events)[-lines.events :] if lines.events else [])]
    return Group(*parts)


def _title(picture: Picture, *, live: bool) -> Text:
    used = sum(view.used for view in picture.instances)
    total = sum(view.slots for view in picture.instances)
    pending = picture.board.count("pending")
    return Text.assemble(
        ("mediaflow", "bold"),
        f"  {picture.source}  {count(len(picture.instances), 'instance')}, {used:,} of {total:,} slots used, "
        f"{picture.board.count('active'):,} active, ",
        (f"{pending:,} pending", "bold yellow" if pending else ""),
        ("   q leaves" if live else "", "dim"),
        no_wrap=live,
        overflow="ellipsis",
    )


def _instances(views: list[InstanceView], most: int, width: int) -> list[RenderableType]:
    if not views:
        return [Text("no live instance: start one with `mediaflow worker`", "yellow")]
    table = drawing.table(
        "instance", "state", "slots", "used", "of", "heartbeat", "address", right=("used", "of", "heartbeat")
    )
    _shrink(table, "instance", "address")
    # Those that leave, then the fullest: where there is something to see.
    ordered = sorted(
        views, key=lambda view: (view.state == "ready", -view.used / view.slots, view.instance_id)
    )
    for view in ordered[:most]:
        late = "yellow" if view.heartbeat_age_ms > 3000 else ""
        table.add_row(
            view.instance_id,
            drawing.state(view.state),
            drawing.slots(view.used, view.slots, 20 if width >= _NARROW else 10),
            f"{view.used:,}",
            f"{view.slots:,}",
            Text(f"{view.heartbeat_age_ms / 1000:.1f} s ago", late),
            view.address or "(embedded)",
        )
    return [table, *_more(len(views) - most, "instance")]


def _sessions(board: Board, most: int, width: int, nothing: str) -> list[RenderableType]:
    if not len(board):
        return [Text(nothing, "dim")]
    table = drawing.table(
        "call", "state", "owner", "fence", "attempt", "lease left", right=("fence", "attempt", "lease left")
    )
    _shrink(table, "call", "owner")
    if width < _NARROW:
        table.columns[0].max_width = 28
    for row in board.first(most):
        table.add_row(*_session(row))
    surely = "" if board.complete else " that are known: there are more calls than are read"
    return [table, *_more(len(board) - most, "session", surely)]


def _session(row: Row) -> tuple[str | Text, ...]:
    lease = row.lease_remaining_ms
    return (
        row.call_id,
        drawing.state(row.state),
        row.owner or drawing.MISSING,
        str(row.fence or drawing.MISSING),
        Text(str(row.attempt), "yellow" if row.attempt > 1 else ""),
        drawing.MISSING if lease is None else f"{lease / 1000:.1f} s",
    )


def _events(events: list[EventView]) -> list[RenderableType]:
    if not events:
        return [Text("nothing has happened since you look", "dim")]
    table = drawing.table("when", "what", "call", "instance", "why")
    _shrink(table, "call", "instance", "why")
    for event in reversed(events):
        table.add_row(
            drawing.time_of_day(event.at),
            drawing.event(event.event),
            event.call_id or drawing.MISSING,
            event.instance_id or drawing.MISSING,
            event.reason or "",
        )
    return [table]


def _shrink(table: Table, *names: str) -> None:
    """Cut what is too long in these columns, so that a row stays a line."""
    for column in table.columns:
        if column.header in names:
            column.overflow = "ellipsis"
        else:
            column.min_width = len(str(column.header))


def _more(number: int, noun: str, surely: str = "") -> list[RenderableType]:
    if number <= 0:
        return [Text(surely.strip(), "dim")] if surely else []
    return [Text(f"… and {number:,} more {noun}{'' if number == 1 else 's'}{surely}", "dim")]
