"""What a plan says: how many of everything, and what breaks first. Plain data."""

import msgspec

from mediaflow.bench.plan.costs import Costs
from mediaflow.bench.plan.demand import Demand


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """How many it takes; ``number`` is None where no number is enough. ``because`` derives it, line by line."""

    name: str
    number: int | None
    because: tuple[str, ...]


class Limit(msgspec.Struct, frozen=True):
    """What does not grow with the number of machines: how much of it is needed, and how much there is."""

    name: str
    needs: float
    allows: float
    unit: str
    because: str
    remedy: str

    @property
    def share(self) -> float:
        """How much of what there is, is needed: above 1 it breaks."""
        return self.needs / self.allows


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """The answer; ``limits`` are in the order in which they break."""

    demand: Demand
    costs: Costs
    figures: tuple[Figure, ...]
    limits: tuple[Limit, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing breaks."""
        return all(limit.share <= 1 for limit in self.limits) and None not in (f.number for f in self.figures)


def tell(derivation: str, *numbers: float | str) -> str:
    """Return a derivation with its numbers in it, as people read them."""
    return derivation.format(*(one if isinstance(one, str) else figure(one) for one in numbers))


def figure(number: float) -> str:
    """Write a number for people: three digits that count, thousands apart."""
    if number >= 100 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.3g}"
