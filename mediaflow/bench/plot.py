"""Draws a report: of each contest how many times better ours is, with its spread; and, over sizes, how figures grow."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mediaflow.bench.report import Line, Report

_OURS, _PEER, _LIMIT = "#1f6feb", "#57606a", "#bc8cff"


class NoPlots(Exception):
    """The library that draws is not installed."""


def library() -> Any:
    """Return the library that draws, without a screen.

    Raises:
        NoPlots: It is not installed.
    """
    try:
        import_module("matplotlib").use("svg")
        return import_module("matplotlib.pyplot")
    except ImportError:
        raise NoPlots("plots need matplotlib: pip install 'mediaflow[bench]'") from None


def plot(told: Report, directory: Path) -> list[Path]:
    """Draw all contests into a directory, and return the files.

    Raises:
        NoPlots: The library that draws is not installed.
        OSError: The directory cannot be written to.
    """
    drawing = library()
    directory.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for contest in dict.fromkeys(line.contest for line in told.lines):
        lines = [line for line in told.lines if line.contest == contest]
        made.append(_save(drawing, _ratios(drawing, lines), directory / f"{contest}.svg"))
        for metric in dict.fromkeys(line.metric for line in lines):
            grown = [line for line in lines if line.metric == metric]
            if len({line.size for line in grown}) > 1:
                name = f"{contest}-{metric.replace(' ', '-')}.svg"
                made.append(_save(drawing, _growth(drawing, grown), directory / name))
    return made


def _save(drawing: Any, figure: Any, path: Path) -> Path:
    figure.savefig(path, bbox_inches="tight")
    drawing.close(figure)  # else pyplot keeps it, and warns of the twentieth
    return path


def _ratios(drawing: Any, lines: Sequence[Line]) -> Any:
    figure, axes = drawing.subplots(figsize=(8, 1.2 + 0.35 * len(lines)))
    for at, line in enumerate(reversed(lines)):
        ratio, colour = line.advantage, _LIMIT if line.is_limit else _OURS
        if ratio is None:
            continue
        axes.plot(
            [ratio.low, ratio.high], [at, at], color=colour, linewidth=4, alpha=0.4, solid_capstyle="round"
        )
        axes.plot([ratio.median], [at], "o", color=colour)
    axes.axvline(1, color=_PEER, linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(lines)), [_label(line) for line in reversed(lines)])
    axes.set_xlabel("ours is so many times better (median, least and greatest; violet: beside the limit)")
    axes.set_title(lines[0].contest, loc="left")
    return figure


def _label(line: Line) -> str:
    size = f" at {line.size:,}" if line.size else ""
    return f"{line.metric}{size}, {line.other_name}"


def _growth(drawing: Any, lines: Sequence[Line]) -> Any:
    figure, axes = drawing.subplots(figsize=(8, 4))
    for number, other in enumerate(dict.fromkeys(line.other_name for line in lines), 1):
        of_other = sorted((line for line in lines if line.other_name == other), key=lambda line: line.size)
        axes.plot(
            [line.size for line in of_other],
            [line.other.median for line in of_other],
            "o--",
            color=f"C{number}",  # the first of all is nearly ours
            label=other,
        )
    # Beside each other at the same size, ours is another measurement of the same.
    ours = sorted({line.size: line for line in lines}.values(), key=lambda line: line.size)
    axes.plot(
        [line.size for line in ours], [line.ours.median for line in ours], "o-", color=_OURS, label="ours"
    )
    axes.set_xlabel(lines[0].axis or "size")
    axes.set_ylabel(f"{lines[0].metric} ({lines[0].unit})")
    axes.set_title(f"{lines[0].contest}: {lines[0].metric}", loc="left")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return figure
