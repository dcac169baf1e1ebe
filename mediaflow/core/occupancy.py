"""How full the rules of a user's streams are: what each one counts now, for people who look.

Refusals are decided by the scripts, at each start. This only counts what plays, by the same rules.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mediaflow.core.policy import Rule, value_text


class Playing(NamedTuple):
    """A live stream as rules see it."""

    device_id: str
    attributes: Mapping[str, str]


class Occupancy(NamedTuple):
    """What one rule counts.

    Attributes:
        value: Of the rule's attribute; None if it has none, or if no stream plays that it counts.
        taken: How many streams, or devices, it counts.
        streams: Those streams, by their place in what was given.
    """

    rule: Rule
    value: str | None
    taken: int
    streams: tuple[int, ...]

    @property
    def full(self) -> bool:
        """Tell whether one more would be one too many."""
        return self.taken >= self.rule.max


def occupancy(rules: Sequence[Rule], playing: Sequence[Playing]) -> list[Occupancy]:
    """Return what each rule counts, in order; a rule by attribute once for each value that plays."""
    found: list[Occupancy] = []
    for rule in rules:
        groups: dict[str | None, list[int]] = {}
        for index, stream in enumerate(playing):
            value = stream.attributes.get(rule.attribute) if rule.attribute else None
            if _matches(rule, stream) and (value is not None or not rule.attribute):
                groups.setdefault(value, []).append(index)
        for value, indexes in groups.items() or [(None, [])]:
            devices = {playing[index].device_id for index in indexes}
            taken = len(indexes) if rule.count == "streams" else len(devices)
            found.append(Occupancy(rule, value, taken, tuple(indexes)))
    return found


def _matches(rule: Rule, stream: Playing) -> bool:
    return all(stream.attributes.get(name) == value_text(value) for name, value in rule.where.items())
