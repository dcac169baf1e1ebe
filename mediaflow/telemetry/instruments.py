"""What is counted, as plain numbers.

Whoever does something keeps the instruments that tell of it, whether anybody reads them or not: adding to one costs
less than a microsecond and needs no library. :class:`~mediaflow.telemetry.metrics.Metrics` shows them to
Prometheus.

Label values come from the code and never from a request: each one kept is a time series for ever.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

FAST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds for what should take milliseconds, in seconds."""

SLOW_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0, 60.0, 300.0)
"""Bounds for what may take as long as leases, in seconds."""


class Tally:
    """A number for each combination of label values; it only grows.

    Args:
        name: Without the prefix ``mediaflow_`` and the suffix ``_total``.
        about: What is counted, in a sentence.
        labels: Names of the labels.
        known: Values of the only label that are there from the start, at 0: a series that begins with its first
            event hides that event from ``rate()``.
    """

    def __init__(self, name: str, about: str, *labels: str, known: Iterable[str] = ()) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        first: Iterable[tuple[str, ...]] = ((value,) for value in known) if labels else ((),)
        self.values: dict[tuple[str, ...], int] = dict.fromkeys(first, 0)

    def add(self, *values: str, by: int = 1) -> None:
        """Count ``by`` more under these label values."""
        self.values[values] = self.values.get(values, 0) + by

    @property
    def total(self) -> int:
        """The sum over all label values."""
        return sum(self.values.values())


class Row:
    """What a :class:`Spread` keeps for one combination of label values."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        """Begin with nothing observed."""
        self.counts = [0] * buckets
        self.sum = 0.0

    def cumulative(self) -> Sequence[int]:
        """Return how many values were within each bound; the last is how many there were."""
        return list(accumulate(self.counts))


class Spread:
    """How values are spread (a histogram), for each combination of label values; arguments as of :class:`Tally`."""

    def __init__(
        self, name: str, about: str, bounds: Sequence[float], *labels: str, known: Iterable[str] = ()
    ) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        self.bounds = tuple(bounds)
        first: Iterable[tuple[str, ...]] = ((value,) for value in known) if labels else ((),)
        self.rows: dict[tuple[str, ...], Row] = {values: self._row() for values in first}

    def observe(self, value: float, *values: str) -> None:
        """Take in one value, not negative, under these label values."""
        row = self.rows.get(values)
        if row is None:
            row = self.rows[values] = self._row()
        row.counts[bisect_left(self.bounds, value)] += 1
        row.sum += value

    def observe_all(self, found: Sequence[float], *values: str) -> None:
        """Take in many values, not negative, under the same label values."""
        row = self.rows.get(values)
        if row is None:
            row = self.rows[values] = self._row()
        # Few of the bounds lie among many values that are alike: sorting them is cheaper than looking each up.
        ordered, seen = sorted(found), 0
        for index, bound in enumerate(self.bounds):
            if seen == len(ordered):
                break
            upto = bisect_right(ordered, bound)
            row.counts[index] += upto - seen
            seen = upto
        row.counts[-1] += len(ordered) - seen
        row.sum += sum(ordered)

    @property
    def count(self) -> int:
        """How many values there were, whatever their labels."""
        return sum(sum(row.counts) for row in self.rows.values())

    def _row(self) -> Row:
        return Row(len(self.bounds) + 1)


Instrument = Tally | Spread


class Meter:
    """Instruments that belong together: each attribute of a subclass's instance is one."""

    @property
    def instruments(self) -> Sequence[Instrument]:
        """All of them, in the order in which they were made."""
        found: Mapping[str, Instrument] = vars(self)
        return tuple(found.values())
