"""What a contest is: who is measured, in which figures.

To add one: write a module in :mod:`mediaflow.bench.contests` that makes a :class:`Contest`, and name it in the
tuple there. A contestant is one coroutine function that is given a :class:`~mediaflow.bench.stage.Stage`, starts
real processes there, and returns its figures by the names of the contest's metrics.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple

from mediaflow.bench.stage import Stage

Better = Literal["lower", "higher"]

Measure = Callable[[Stage], Awaitable[Mapping[str, float]]]
"""Measures one contestant once; :class:`~mediaflow.bench.stage.Unfit` if it cannot be, with the reason."""


class Metric(NamedTuple):
    """One figure of a contest."""

    name: str
    unit: str
    better: Better


class Bound(NamedTuple):
    """The greatest size at which a contestant is asked, and what it does beyond."""

    size: int
    beyond: str


class Contestant(NamedTuple):
    """Who is measured.

    Attributes:
        name: As people know it: ``taskiq on streams``.
        measure: Measures it once, from a Redis that is empty, and leaves no process behind.
        packages: Distributions that it needs, whose versions are told; without one of them it does not take part.
        is_limit: What the machine gives at best, and no product.
        is_slow: It takes so long that quick runs leave it out.
        bound: Up to which size it is asked, if not at all: beside one that surely fails ours is measured in vain.
    """

    name: str
    measure: Measure
    packages: tuple[str, ...] = ()
    is_limit: bool = False
    is_slow: bool = False
    bound: Bound | None = None


class Contest(NamedTuple):
    """One question, put to all contestants.

    Attributes:
        name: For ``--only``.
        title: What is measured, for people.
        metrics: What each contestant returns.
        ours: The product.
        others: Peers and limits, each measured in turn with ours.
        sizes: Sizes at which it is asked (``stage.size``), if it matters how the answer grows.
        axis: What a size counts, for the plot.
        deadline_s: Of one measurement of one contestant.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    ours: Contestant
    others: tuple[Contestant, ...]
    sizes: tuple[int, ...] = (0,)
    axis: str = ""
    deadline_s: float = 85.0
