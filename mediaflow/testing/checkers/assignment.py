"""G1: every session is eventually given an owner while some instance has a free slot.

Demanded: at the end, each call that has a live session has one that is active, and that its owner runs. This holds
for calls whose client got no answer as well: once Redis knows a session, somebody owes it an owner.

Exempt, because nothing is owed yet:

* all slots are taken, or were until a moment ago: the session waits for its turn;
* the session only just came about, or its handler left a moment ago: it may be in its back-off, or be offered.

A call that Redis does not know at the end is not judged here but by G2, which knows what Redis may lose.
"""

from collections.abc import Sequence

from mediaflow.testing.checkers.reading import LIVE, final, has_room, settled_by
from mediaflow.testing.history import AnyHappening, FinalSession, Terms, Violation


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge the calls that are live at the end."""
    end = final(history)
    if end is None or not has_room(history, end, terms):
        return []
    by = settled_by(history, terms)
    found: list[Violation] = []
    for call_id, sessions in end.calls.items():
        live = [one for one in sessions if one.state in LIVE]
        if not live or any(_runs(one) or by.get(one.session_id, 0.0) > end.at_s for one in live):
            continue
        how = ", ".join(f"{one.session_id} is {one.state} of {one.instance_id or 'nobody'}" for one in live)
        message = f"nobody who owns call {call_id} runs it, though there is room: {how}"
        found.append(Violation(guarantee="G1", at_s=end.at_s, message=message))
    return found


def _runs(session: FinalSession) -> bool:
    return session.state == "active" and session.instance_id in session.running_on
