"""Plots: how a figure grows is drawn over all sizes."""

from unittest.mock import MagicMock

from harness.measured import CONDITIONS

from mediaflow.bench import plot as plotting
from mediaflow.bench.contest import Contest, Contestant, Metric
from mediaflow.bench.figures import Pair
from mediaflow.bench.match import Duel
from mediaflow.bench.report import report


async def nobody(stage):
    raise AssertionError("nothing is measured here")


def test_ours_is_drawn_also_at_sizes_at_which_a_peer_could_not_be_asked(tmp_path, monkeypatch):
    contest = Contest(
        "race",
        "who is first",
        (Metric("p50", "ms", "lower"),),
        Contestant("a worker", nobody),
        (Contestant("weak", nobody), Contestant("strong", nobody)),
        sizes=(1, 2, 3),
    )
    duels = [
        Duel(contest="race", size=size, ours="a worker", other=other, pairs={"p50": [Pair(size, 2.0 * size)]})
        for other, sizes in (("weak", (1,)), ("strong", (1, 2, 3)))
        for size in sizes
    ]
    drawn, open_figures = [], []

    def subplots(**_):
        axes, figure = MagicMock(), MagicMock()
        axes.plot.side_effect = lambda x, y, *_, label="", **__: drawn.append((label, x, y))
        open_figures.append(figure)
        return figure, axes

    drawing = MagicMock(subplots=subplots, close=open_figures.remove)
    monkeypatch.setattr(plotting, "library", lambda: drawing)
    plotting.plot(report(CONDITIONS, [(contest, duels)]), tmp_path)
    assert ("ours", [1, 2, 3], [1, 2, 3]) in drawn
    assert not open_figures, "pyplot keeps each one that is not closed, and warns of the twentieth"
