"""G8: when Redis itself was away, or its clock jumped, no session moves whose owner lives.

Demanded: from when Redis was frozen, stopped or emptied, or its clock jumped, until a lease and half a second after
that was over, no handler starts on an instance while another, that was well all the while, is still the one to run
that session: it was running it when the trouble began, and did not end the attempt.

Exempt:

* an owner that was paused, cut off, killed or told to drain, from a lease before the trouble until the takeover;
* a new attempt: the coroutine raised, and may be tried again elsewhere;
* foul weather: an owner whose requests are lost has no time to renew in, however long it is given;
* where all data was lost, in the trouble or before it, an instance that ran the session before and is the only one to
  own it in Redis since: the loss lets a former owner put it back first, and nothing is left to tell that it is the
  older one. Not exempt, if another, such as the newest owner, had put it back by then;
* where a Redis was rolled back within the time in question: it may hold the session as pending, or another's;
* so many jumps, thaws and restarts within a lease that together they outlast it: each costs a lease the cap, and
  owners have between two renewals only what is left of it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from mediaflow.testing.checkers.reading import SWIFT_S, Run, every, runs
from mediaflow.testing.checkers.troubles import intervals, troubles, untroubled
from mediaflow.testing.history import AnyHappening, Fault, Recorded, Terms, Violation

RENEWAL_LEFT = 0.6
"""What an owner has left of its lease when it is about to renew: two thirds, less what renewals are spread by."""


class Trouble(NamedTuple):
    """When Redis was in trouble; ``until_s``: how long after it no takeover is due."""

    kind: str
    from_s: float
    until_s: float


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each takeover after such a trouble."""
    found: list[Violation] = []
    all_runs, who_is_troubled = runs(history), troubles(history)
    for trouble in _troubles_of_redis(history, terms):
        for run in all_runs:
            if not trouble.from_s < run.started.at_s <= trouble.until_s:
                continue
            from_s, at_s = trouble.from_s - terms.lease_ttl_s, run.started.at_s
            robbed = _robbed(run, all_runs, trouble, history)
            if robbed is None or not untroubled(who_is_troubled, robbed.started.instance_id, from_s, at_s):
                continue
            if not (_outlasts_leases(history, from_s, at_s, terms) or _is_foul(history, from_s, at_s)):
                whom = f"{robbed.started.instance_id}, which was well"
                message = f"{run.started.instance_id} took {run.started.session_id} over from {whom}: {trouble.kind}"
                found.append(Violation(guarantee="G8", at_s=at_s, message=message))
    return list(dict.fromkeys(found))


def _troubles_of_redis(history: Sequence[AnyHappening], terms: Terms) -> list[Trouble]:
    after_s = terms.lease_ttl_s + SWIFT_S
    found = [
        Trouble(kind, interval.from_s, interval.to_s + after_s)
        for kind in ("frozen", "stopped")
        for _, interval in intervals(history, kind)
    ]
    found += [
        Trouble(one.kind, one.at_s, one.at_s + after_s)
        for one in every(history, Fault)
        if one.kind in ("emptied", "clock jumped")
    ]
    return found


def _robbed(
    taker: Run, all_runs: Sequence[Run], trouble: Trouble, history: Sequence[AnyHappening]
) -> Run | None:
    """Return the run that this one took over from, if there was no reason to."""
    earlier = [
        run
        for run in all_runs
        if run.started.session_id == taker.started.session_id and run.started.at_s < taker.started.at_s
    ]
    was_owner = any(run.started.instance_id == taker.started.instance_id for run in earlier)
    if was_owner and _puts_back(taker, trouble, history):
        return None
    newest = max(earlier, key=lambda run: run.started.fence, default=None)
    if newest is None or not newest.spans(trouble.from_s):
        return None
    is_other = newest.started.instance_id != taker.started.instance_id
    return newest if is_other and newest.started.attempt == taker.started.attempt else None


def _puts_back(taker: Run, trouble: Trouble, history: Sequence[AnyHappening]) -> bool:
    """Tell whether Redis lost everything before this run, and had no other owner of the session since.

    Without records of owners only a loss within the trouble is sure to have left nobody time to put it back.
    """
    lost_at_s, owners = -math.inf, set[str]()
    for one in history:
        if one.at_s > taker.started.at_s:
            break
        if isinstance(one, Fault) and one.kind == "emptied":
            lost_at_s, owners = one.at_s, set[str]()
        elif (
            isinstance(one, Recorded) and one.session_id == taker.started.session_id and one.state == "active"
        ):
            owners.add(one.instance_id)
    if not owners:
        return lost_at_s >= trouble.from_s
    return lost_at_s > -math.inf and owners == {taker.started.instance_id}


def _outlasts_leases(history: Sequence[AnyHappening], from_s: float, to_s: float, terms: Terms) -> bool:
    within = [one.kind for one in every(history, Fault) if from_s <= one.at_s <= to_s]
    cost_s = terms.clock_cap_s * sum(kind in ("clock jumped", "thawed", "restarted") for kind in within)
    outlasts = cost_s > terms.clock_cap_s and cost_s >= RENEWAL_LEFT * terms.lease_ttl_s - SWIFT_S
    return outlasts or "rolled back" in within


def _is_foul(history: Sequence[AnyHappening], from_s: float, to_s: float) -> bool:
    return any(
        interval.from_s < to_s and interval.to_s > from_s
        for _, interval in intervals(history, "foul weather")
    )
