"""G4: siblings converge: all live sessions of a call but one yield, and never all of them.

Demanded of each record that becomes ``yielded``: just before, another session of the call was active, accepted and
under a live lease; and senior to it, if both were active, or if the one that yields was renewing or completing.

Demanded of each record that becomes ``cancelled`` because a sibling completed: it was not senior to that one, or
not active, accepted and under a live lease.

Demanded at the end:

* each live call has exactly one live session, and only its owner runs it;
* no call has only sessions that yielded;
* the survivor's writes are accepted: one that used to write has written since the run healed, if anyone has.

Where the history cannot tell, it is believed: the lease of the senior sibling counts as live if it was when its
record was last written down. The simulator writes down all records of a call when one of them changes.

Exempt:

* a pending sibling while no slot is free, or in its back-off: it yields when its turn comes to be assigned;
* a former owner's handler, for a lease and the time that it may take to stop, after another took over or the run
  healed: its next renewal tells it;
* writes of a handler that said that it hangs, by an ``Effect`` with ``what="hangs"``; of one that wrote less than
  three times; and for two leases, an acceptance and five of its usual pauses after it began, or the run healed.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from mediaflow.core.seniority import Standing, precedes
from mediaflow.testing.checkers.losses import Records
from mediaflow.testing.checkers.reading import LIVE, LONGEST_STOP_S, every, final, has_room, settled_by
from mediaflow.testing.history import (
    AnyHappening,
    Effect,
    Final,
    FinalSession,
    Healed,
    Recorded,
    Started,
    Terms,
    Violation,
    Wrote,
)

HANGS = "hangs"
USED_TO_WRITE = 3
PAUSES = 5


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each yield, and the end."""
    found = [*_groundless_yields(history, terms), *_overruled_seniors(history, terms)]
    end = final(history)
    if end:
        messages = [
            *_surplus(history, end, terms),
            *_former_owners(history, end, terms),
            *_mute(history, end, terms),
        ]
        found += [Violation(guarantee="G4", at_s=end.at_s, message=message) for message in messages]
    return found


def _groundless_yields(history: Sequence[AnyHappening], terms: Terms) -> Iterator[Violation]:
    records = Records(terms)
    for one in history:
        if isinstance(one, Recorded) and one.state == "yielded":
            before = records.newest(one.session_id)
            has_yielded_before = before is not None and before.state == "yielded"
            siblings = records.siblings(one.call_id, one.session_id)
            if not has_yielded_before and not any(_justifies(sibling, one, before) for sibling in siblings):
                states = ", ".join(f"{s.session_id} {s.state}, lease {s.lease_s:.3f} s" for s in siblings)
                message = f"{one.session_id} yielded without a live senior: {states or 'it has no sibling'}"
                yield Violation(guarantee="G4", at_s=one.at_s, message=message)
        records.take(one)


def _overruled_seniors(history: Sequence[AnyHappening], terms: Terms) -> Iterator[Violation]:
    records = Records(terms)
    completed = {(one.at_s, one.call_id): one for one in every(history, Recorded) if one.state == "completed"}
    for one in history:
        if isinstance(one, Recorded) and (one.state, one.script) == ("cancelled", "complete"):
            before = records.newest(one.session_id)
            ran = (
                before is not None and before.state == "active" and before.accepted and one.lease_before_s > 0
            )
            other = completed.get((one.at_s, one.call_id))
            if ran and other and _is_senior(one, other):
                message = f"{one.session_id} was cancelled when its junior {other.session_id} completed"
                yield Violation(guarantee="G4", at_s=one.at_s, message=message)
        records.take(one)


def _is_senior(one: Recorded, other: Recorded) -> bool:
    return precedes(Standing(one.rank, one.session_id), Standing(other.rank, other.session_id))


def _justifies(sibling: Recorded, one: Recorded, before: Recorded | None) -> bool:
    if sibling.state != "active" or not sibling.accepted or sibling.lease_s <= 0:
        return False
    has_rank = one.script in ("renew", "complete") or (
        one.script != "assign" and before is not None and before.state == "active"
    )
    rank = one.rank or (before.rank if before else "")
    senior = precedes(Standing(sibling.rank, sibling.session_id), Standing(rank, one.session_id))
    return senior or not has_rank


def _surplus(history: Sequence[AnyHappening], end: Final, terms: Terms) -> Iterator[str]:
    room = has_room(history, end, terms)
    by = settled_by(history, terms)
    for call_id, sessions in end.calls.items():
        live = [one for one in sessions if one.state in LIVE]
        lasting = [
            one for one in live if one.state == "active" or (room and by.get(one.session_id, 0.0) <= end.at_s)
        ]
        if len(lasting) > 1:
            yield f"call {call_id} ends with several live sessions: {', '.join(one.session_id for one in live)}"
        if sessions and all(one.state == "yielded" for one in sessions):
            yield f"all sessions of call {call_id} yielded"


def _former_owners(history: Sequence[AnyHappening], end: Final, terms: Terms) -> Iterator[str]:
    recently_s = end.at_s - terms.lease_ttl_s - LONGEST_STOP_S
    began = {(one.session_id, one.instance_id): one.at_s for one in every(history, Started)}
    if any(one.at_s > recently_s for one in every(history, Healed)):
        return
    for session in _active(end):
        others = [one for one in session.running_on if one != session.instance_id]
        if others and began.get((session.session_id, session.instance_id), 0.0) <= recently_s:
            yield f"{session.session_id} of {session.instance_id} still runs on {', '.join(others)}"


def _mute(history: Sequence[AnyHappening], end: Final, terms: Terms) -> Iterator[str]:
    healed_s = max((one.at_s for one in every(history, Healed)), default=None)
    writes: defaultdict[str, list[float]] = defaultdict(list)
    for one in every(history, Wrote):
        writes[one.session_id].append(one.at_s)
    if healed_s is None or not any(times[-1] > healed_s for times in writes.values()):
        return
    hang = {one.session_id for one in every(history, Effect) if one.what == HANGS}
    began: dict[str, float] = {}
    for one in every(history, Started):
        began.setdefault(one.session_id, one.at_s)
    for session in _active(end):
        times = writes.get(session.session_id, [])
        if (
            session.instance_id not in session.running_on
            or session.session_id in hang
            or len(times) < USED_TO_WRITE
        ):
            continue
        pause_s = median(later - earlier for earlier, later in pairwise(times))
        patience_s = 2 * terms.lease_ttl_s + terms.accept_ttl_s + PAUSES * pause_s
        if (
            times[-1] <= healed_s
            and end.at_s - max(healed_s, began.get(session.session_id, 0.0)) > patience_s
        ):
            yield f"{session.session_id} runs on {session.instance_id}, but its last write was at {times[-1]:.3f}"


def _active(end: Final) -> list[FinalSession]:
    return [one for sessions in end.calls.values() for one in sessions if one.state == "active"]
