"""What Redis held, and what it lost: by its data going away, by its clock jumping."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from mediaflow.testing.checkers.reading import FOREVER, TERMINAL
from mediaflow.testing.history import AnyHappening, Fault, Recorded, Terms

BLUR_S = 1e-3
"""How exactly a history tells how far Redis was rolled back."""

RETENTION_PART = 0.9
"""A clock that jumps by this part of the retention may make Redis forget what ended during the rest of it."""


class Loss(NamedTuple):
    """Redis lost, at ``at_s``, what was written after ``since_s``."""

    at_s: float
    since_s: float

    def may_cover(self, from_s: float, to_s: float) -> bool:
        """Tell whether something that was written at some time within these bounds may have been lost."""
        return self.since_s < to_s and from_s <= self.at_s


def loss(one: AnyHappening) -> Loss | None:
    """Read a happening as a loss of data, if it is one; without a readable extent all may be lost.

    A Redis that is split has lost, to whoever asks the older one, what that one lacks.
    """
    if not isinstance(one, Fault) or one.kind not in ("emptied", "rolled back", "split"):
        return None
    extent_s = None if one.kind == "emptied" else _amount(one.detail)
    return Loss(one.at_s, -FOREVER if extent_s is None else one.at_s - abs(extent_s) - BLUR_S)


def losses(history: Sequence[AnyHappening]) -> list[Loss]:
    """Return the losses of data, in order."""
    return [found for one in history if (found := loss(one))]


def is_split(one: AnyHappening, *, before: bool) -> bool:
    """Tell whether Redis is two after a happening, given whether it was ``before``."""
    if not isinstance(one, Fault):
        return before
    return one.kind == "split" or (before and one.kind not in ("emptied", "rolled back"))


def is_jump(one: AnyHappening, *, forward: bool) -> bool:
    """Tell a jump of the clock of Redis in that direction; one of unknown extent may have gone either way."""
    if not isinstance(one, Fault) or one.kind != "clock jumped":
        return False
    by_s = _amount(one.detail)
    return by_s is None or (by_s > 0) == forward


def outlasts_retention(one: AnyHappening, terms: Terms) -> bool:
    """Tell a jump of the clock by which Redis forgets sessions that have ended, as if the retention were over."""
    if not isinstance(one, Fault) or not is_jump(one, forward=True):
        return False
    by_s = _amount(one.detail)
    return by_s is None or by_s >= RETENTION_PART * terms.retention_s


def _amount(detail: str) -> float | None:
    found = re.search(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", detail)
    return float(found[0]) if found else None


class Records:
    """The ownership records that Redis holds, as of the happenings that were taken in so far.

    A loss takes back by itself what it covers, whether or not the history records what is there afterwards; a jump
    of the clock that is longer than the retention takes away what has ended.
    """

    def __init__(self, terms: Terms) -> None:
        """Begin with an empty Redis."""
        self._terms = terms
        # By session: from when on which record was there; None: none was.
        self._versions: defaultdict[str, list[tuple[float, Recorded | None]]] = defaultdict(list)
        self._calls: defaultdict[str, dict[str, None]] = defaultdict(dict)

    def take(self, one: AnyHappening) -> None:
        """Take in the next happening."""
        if isinstance(one, Recorded):
            is_there = one.state != "forgotten"
            self._versions[one.session_id].append((one.at_s, one if is_there else None))
            self._calls[one.call_id][one.session_id] = None
        elif lost := loss(one):
            for versions in self._versions.values():
                then = [record for at_s, record in versions if at_s <= lost.since_s + 2 * BLUR_S]
                versions.append((lost.at_s, then[-1] if then else None))
        elif outlasts_retention(one, self._terms):
            for versions in self._versions.values():
                record = versions[-1][1]
                if record and record.state in TERMINAL:
                    versions.append((one.at_s, None))

    def is_put_back(self, one: Recorded) -> bool:
        """Tell whether this record, which is about to be taken in, is of a session that Redis had forgotten."""
        was_there = one.session_id in self._versions
        return was_there and one.state == "active" and self.newest(one.session_id) is None

    def everything(self) -> list[Recorded]:
        """Return the records of all sessions."""
        return [record for one in self._versions if (record := self.newest(one))]

    def newest(self, session_id: str) -> Recorded | None:
        """Return the record of a session, None if Redis has none."""
        versions = self._versions.get(session_id)
        return versions[-1][1] if versions else None

    def siblings(self, call_id: str, session_id: str) -> list[Recorded]:
        """Return the records of the other sessions of a call."""
        others = (self.newest(one) for one in self._calls[call_id] if one != session_id)
        return [one for one in others if one]
