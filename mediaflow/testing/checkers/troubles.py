"""Who was in trouble when: the part of a history that excuses a process from what is asked of it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mediaflow.testing.checkers.reading import FOREVER
from mediaflow.testing.history import AnyHappening, DrainAsked, Fault, Healed, Joined, Left


class Interval(NamedTuple):
    """From one time to another, both within."""

    from_s: float
    to_s: float


_ENDS = {
    "paused": ("resumed",),
    "cut": ("mended",),
    "slowed": ("hastened",),
    "unreachable": ("reachable",),
    "frozen": ("thawed", "emptied", "rolled back"),
    "stopped": ("thawed", "restarted", "emptied", "rolled back"),
    "watchdog paused": ("watchdog resumed",),
    "watchdog killed": ("watchdog resumed",),
    "foul weather": ("fair weather",),
}


def intervals(history: Sequence[AnyHappening], kind: str) -> list[tuple[str, Interval]]:
    """Return when a fault that can end was there, with its target.

    ``Healed`` ends every one of them, and a new process what befell the one before it.
    """
    found: list[tuple[str, Interval]] = []
    since: dict[str, float] = {}
    for one in history:
        if isinstance(one, Fault) and one.kind == kind:
            since.setdefault(one.target, one.at_s)
            continue
        match one:
            case Fault(kind=end, target=target) if end in _ENDS[kind]:
                ended = [target] if target else list(since)
            case Joined(instance_id=target):
                ended = [target]
            case Healed():
                ended = list(since)
            case _:
                ended = []
        found += [(who, Interval(since.pop(who), one.at_s)) for who in ended if who in since]
    return found + [(who, Interval(at_s, FOREVER)) for who, at_s in since.items()]


def troubles(history: Sequence[AnyHappening]) -> dict[str, list[Interval]]:
    """Return when each instance was paused, cut off, slow, draining or gone: when nothing is asked of its process."""
    found: defaultdict[str, list[Interval]] = defaultdict(list)
    for kind in ("paused", "cut", "slowed"):
        for instance_id, interval in intervals(history, kind):
            found[instance_id].append(interval)
    gone: dict[str, float] = {}
    for one in history:
        match one:
            case DrainAsked() | Left():
                gone.setdefault(one.instance_id, one.at_s)
            case Fault(kind="killed"):
                gone.setdefault(one.target, one.at_s)
            case Joined():
                if one.instance_id in gone:
                    found[one.instance_id].append(Interval(gone.pop(one.instance_id), one.at_s))
            case _:
                pass
    for instance_id, at_s in gone.items():
        found[instance_id].append(Interval(at_s, FOREVER))
    return found


def untroubled(found: Mapping[str, Sequence[Interval]], instance_id: str, from_s: float, to_s: float) -> bool:
    """Tell whether an instance was well from one time to another."""
    return not any(one.from_s <= to_s and one.to_s >= from_s for one in found.get(instance_id, ()))
