"""G7: what Redis forgets, live owners put back.

Demanded: after a loss of data, each call that a living, connected process was running a session of is still there at
the end: that session, or one of its siblings, is live or ended as sessions do. (That what is live also runs is G1's.)

Exempt:

* calls that a client asked to end, at any time: the end may have been lost, or acknowledged and lost;
* a session whose process was paused, cut off, killed or draining at the moment of the loss or within a lease after
  it: it had no time to put the session back, and then nobody living holds it. Likewise if Redis is away again then;
* a session that was over for its owner by then: Redis had recorded it as ended or another's, or a younger session of
  its call as completed (which ends the call, also for a session that Redis forgot), and its handler was told so. It
  may take its time to stop, and runs for nobody meanwhile. A history does not tell when it was told: that it was, and
  that there was a reason before the loss, is enough. Not exempt, if that owner took it up once more under the same
  handler, before the loss or after it: then it had not been told;
* a session that a later loss found in one of those states, whatever became of it before.
"""

from collections.abc import Sequence

from mediaflow.testing.checkers.losses import Loss, losses
from mediaflow.testing.checkers.reading import LIVE, TERMINAL, Run, every, final, runs
from mediaflow.testing.checkers.troubles import Interval, intervals, troubles, untroubled
from mediaflow.testing.history import AnyHappening, EndAsked, FinalSession, Recorded, Terms, Violation

TOLD = frozenset({"lost", "yielded", "cancelled"})
"""How a handler leaves that was stopped because Redis says that its session is not, or no longer, its owner's."""


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
        if run.spans(lost.at_s)
        and untroubled(trouble, run.started.instance_id, lost.at_s, until_s)
        and not _was_over(history, run, lost.at_s)
    }


def _was_over(history: Sequence[AnyHappening], run: Run, at_s: float) -> bool:
    """Tell whether a handler that ran then was only taking its time to stop."""
    started = run.started
    if run.reason not in TOLD:
        return False
    is_over = False
    for one in every(history, Recorded):
        if one.call_id != started.call_id or not started.at_s < one.at_s < run.ended_s:
            continue
        is_own = one.session_id == started.session_id
        is_mine = (one.instance_id, one.incarnation) == (started.instance_id, started.incarnation)
        if is_own and one.state == "active" and one.accepted and is_mine and one.script != "rolled back":
            is_over = False  # what a rollback shows is old; all else tells that the owner goes on
        elif one.at_s >= at_s:
            continue
        elif is_own:
            is_over = is_over or one.state in TERMINAL or (one.state == "active" and not is_mine)
        else:
            is_over = is_over or (one.state == "completed" and one.session_id > started.session_id)
    return is_over


def _is_there(sessions: Sequence[FinalSession], session_id: str) -> bool:
    """Tell whether the session is there, or a sibling that outlived it."""
    return any(
        one.session_id == session_id or one.state in LIVE or one.state in ("completed", "failed", "cancelled")
        for one in sessions
    )
