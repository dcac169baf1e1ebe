"""Where the lines of `mediaflow up` go: a terminal, or a pipe that must not see control characters."""

import datetime as dt
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

REFRESH_HZ = 5


class Screen:
    """Prints one line for one event, with the time in front; on a terminal it can keep a panel below."""

    def __init__(self, file: TextIO | None = None) -> None:
        file = file or sys.stdout
        self._console = Console(file=file, highlight=False, soft_wrap=True)
        self.live = self._console.is_terminal and not self._console.is_dumb_terminal

    def event(self, text: str, style: str = "") -> None:
        """Print what happened just now."""
        line = Text(_clock_time(), style="dim")
        line.append("  ")
        line.append(text, style=style or None)
        self._console.print(line)

    def plain(self, text: str = "") -> None:
        """Print a line without the time."""
        self._console.print(Text(text))

    @contextmanager
    def panel(self, draw: Callable[[], RenderableType]) -> Generator[None]:
        """Keep what ``draw`` returns below the lines, on a terminal; elsewhere do nothing."""
        if not self.live:
            yield
            return
        with Live(
            console=self._console,
            get_renderable=draw,
            refresh_per_second=REFRESH_HZ,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        ):
            yield


def _clock_time() -> str:
    moment = dt.datetime.fromtimestamp(time.time_ns() / 1e9, tz=dt.UTC).astimezone()
    return moment.strftime("%H:%M:%S")
