"""G7: what Redis forgets, live owners put back.

Demanded: after a loss of data, each call that a living, connected process was running a session of is still there at
the end: that session, or one of its siblings, is live or ended as sessions do. (That what is live also runs is G1's.)

Exempt:

* calls that a client asked to end, at any time: the end may have been lost, or acknowledged and lost;
* a session whose process was paused, cut off, killed or draining at the moment of the loss or within a lease after
  it: it had no time to put the session back, and then nobody living holds it. Likewise if Redis is away again then;
* a session that a later loss found in that state, whatever became of it before.
"""

from collections.abc import Sequence

from mediaflow.testing.checkers.losses import Loss, losses
from mediaflow.testing.checkers.reading import LIVE, Run, every, final, runs
from mediaflow.testing.checkers.troubles import Interval, intervals, troubles, untroubled
from mediaflow.testing.history import AnyHappening, EndAsked, FinalSession, Terms, Violation


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each session that was running at a loss."""
    end = final(history)
    lost = losses(history)
    if end is None or not lost:
        return []
    ended = {one.call_id for one in every(history, EndAsked)}
    held_at = [_held(history, one, terms) for one in lost]
    found: list[Violation] = []
    judged: set[str] = set()
    for index, (one, held) in enumerate(zip(lost, held_at, strict=True)):
        for session_id, run in held.items():
            call_id = run.started.call_id
            held_on = all(session_id in later for later in held_at[index + 1 :])
            if session_id in judged or call_id in ended or not held_on:
                continue
            judged.add(session_id)
            if not _is_there(end.calls.get(call_id, ()), session_id):
                who = f"{run.started.instance_id}, which was running it"
                message = f"{session_id} of call {call_id} was not put back by {who}"
                found.append(Violation(guarantee="G7", at_s=one.at_s, message=message))
    return found


def _held(history: Sequence[AnyHappening], lost: Loss, terms: Terms) -> dict[str, Run]:
    """Return what ran in processes that were well at a loss, and for a lease after it."""
    until_s = lost.at_s + terms.lease_ttl_s
    away = [interval for kind in ("frozen", "stopped") for _, interval in intervals(history, kind)]
    if any(lost.at_s < one.to_s and one.from_s <= until_s for one in away):
        return {}
    trouble: dict[str, list[Interval]] = troubles(history)
    return {
        run.started.session_id: run
        for run in runs(history)
        if run.spans(lost.at_s) and untroubled(trouble, run.started.instance_id, lost.at_s, until_s)
    }


def _is_there(sessions: Sequence[FinalSession], session_id: str) -> bool:
    """Tell whether the session is there, or a sibling that outlived it."""
    return any(
        one.session_id == session_id or one.state in LIVE or one.state in ("completed", "failed", "cancelled")
        for one in sessions
    )
