"""How states, durations, times and slots look on a terminal, so that every command shows them alike."""

import datetime as dt
import io
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

STYLES: Mapping[str, str] = {
    "ready": "green",
    "active": "green",
    "draining": "yellow",
    "pending": "yellow",
    "completed": "dim",
    "cancelled": "dim",
    "yielded": "dim",
    "failed": "red",
}
"""By state of an instance or a session."""

EVENT_STYLES: Mapping[str, str] = {
    "takeover": "magenta",
    "handoff": "cyan",
    "yielded": "cyan",
    "readopted": "cyan",
    "lost": "red",
    "failed": "red",
    "pending": "yellow",
    "draining": "yellow",
    "activated": "green",
    "joined": "green",
}
"""By the last word of an event's name; what is as usual has none."""

MISSING = "–"


def state(name: str) -> Text:
    """Return a state in its colour."""
    return Text(name, STYLES.get(name, ""))


def event(name: str) -> Text:
    """Return the name of an event in its colour."""
    return Text(name, EVENT_STYLES.get(name.rpartition(".")[2], ""))


def slots(used: int, total: int, width: int = 20) -> ProgressBar:
    """Return a bar that is as full as the slots are; red when none is left."""
    style = "red" if used >= total else "yellow" if used >= 0.8 * total else "green"
    return ProgressBar(
        total=max(total, 1), completed=used, width=width, complete_style=style, finished_style=style
    )


def duration(ms: float) -> str:
    """Return a duration in two units at most: ``0.3 s``, ``42 s``, ``3 m 20 s``, ``2 h 5 m``, ``3 d 4 h``."""
    seconds = max(0.0, ms / 1000)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, size, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    raise AssertionError("a minute or more")


def moment(at: str) -> dt.datetime:
    """Return the time that an answer gives as RFC 3339, in this host's time zone."""
    return dt.datetime.fromisoformat(at).astimezone()


def time_of_day(at: str) -> str:
    """Return ``14:05:09.123`` of an RFC 3339 time, in this host's time zone."""
    return moment(at).strftime("%H:%M:%S.%f")[:-3]


def table(*columns: str, right: tuple[str, ...] = (), expand: bool = False) -> Table:
    """Return an empty table without lines; ``right`` names columns of numbers."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=expand)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return made


def console(*, stderr: bool = False) -> Console:
    """Return where to draw; nothing in what is drawn is markup."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # a command line, and so an address, may hold any bytes
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)
