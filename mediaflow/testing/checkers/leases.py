"""A lease is as long as promised, and as long as it runs nobody takes the session: what takeovers rest upon.

Demanded:

* the record of an active session never shows a lease longer than the full one, once its owner has accepted it, nor
  longer than the acceptance lease before: an offer that nobody heard of must lapse soon (a part of G6);
* no sweep takes a session away whose lease still runs, unless the process of its owner is gone;
* an owner that gave a session up does not get it back by a renewal of its own that comes late.

No fault exempts from it, as leases are counted in lease time; but a loss makes Redis forget who gave up what.
"""

from collections.abc import Collection, Sequence

from mediaflow.testing.checkers.losses import Records, loss
from mediaflow.testing.checkers.reading import ROUNDING_S
from mediaflow.testing.history import AnyHappening, Fault, Joined, Left, Recorded, Started, Terms, Violation


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each record."""
    found: list[Violation] = []
    records, owners, given_up = Records(terms), _Owners(), set[str]()
    for one in history:
        if isinstance(one, Recorded):
            if message := _too_long(one, terms):
                found.append(Violation(guarantee="G6", at_s=one.at_s, message=message))
            before = records.newest(one.session_id)
            if before is None or _said(one) != _said(before):
                wrong = _taken(one, before, owners) or _revived(one, given_up)
                found += [Violation(guarantee="lease", at_s=one.at_s, message=wrong)] if wrong else []
                given_up.discard(one.session_id)
                if one.script == "relinquish" and one.state == "pending":
                    given_up.add(one.session_id)
        elif loss(one):
            given_up.clear()
        owners.take(one)
        records.take(one)
    return found


def _said(one: Recorded) -> tuple[str, str, int, int, bool]:
    return one.state, one.instance_id, one.incarnation, one.fence, one.accepted


def _too_long(one: Recorded, terms: Terms) -> str:
    kind, longest_s = "lease", terms.lease_ttl_s
    if not one.accepted:
        kind, longest_s = "acceptance lease", terms.accept_ttl_s
    if one.state != "active" or one.lease_s <= longest_s + ROUNDING_S:
        return ""
    return f"the {kind} of {one.session_id} still runs {one.lease_s:.3f} s, {longest_s:.3f} at most"


def _taken(one: Recorded, before: Recorded | None, owners: "_Owners") -> str:
    if one.script != "sweep" or one.lease_before_s <= 0:
        return ""
    if before is None or before.state != "active" or one.state == "active" or owners.is_gone(before):
        return ""
    owner = f"{before.instance_id}, which lives"
    return f"{one.session_id} was taken from {owner}: its lease would still run {one.lease_before_s:.3f} s"


def _revived(one: Recorded, given_up: Collection[str]) -> str:
    if one.session_id not in given_up or one.script != "renew" or one.state != "active":
        return ""
    return f"{one.instance_id} had given {one.session_id} up, and got it back by a late renewal"


class _Owners:
    """Which processes are gone.

    An incarnation is of the process that was its instance's newest when it first ran a handler. What Redis records
    before proves nothing: a request of a process that has ended may come late.
    """

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._process: dict[tuple[str, int], int] = {}

    def take(self, one: AnyHappening) -> None:
        """Take in the next happening."""
        match one:
            case Joined():
                self._newest[one.instance_id] = one.process
                self._gone[one.instance_id] = max(self._gone.get(one.instance_id, 0), one.process - 1)
            case Left():
                self._gone[one.instance_id] = max(self._gone.get(one.instance_id, 0), one.process)
            case Fault(kind="killed"):
                self._gone[one.target] = self._newest.get(one.target, 0)
            case Started():
                owner = one.instance_id, one.incarnation
                self._process.setdefault(owner, self._newest.get(one.instance_id, 0))
            case _:
                pass

    def is_gone(self, record: Recorded) -> bool:
        """Tell whether the process that owns the session has ended, or a newer one of its id has begun."""
        process = self._process.get((record.instance_id, record.incarnation), 0)
        return process <= self._gone.get(record.instance_id, 0)
