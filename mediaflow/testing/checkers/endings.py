"""Terminal sessions stay ended.

Demanded:

* a session that is recorded as completed, failed, cancelled or yielded is recorded as nothing else afterwards;
* one that is recorded as completed had a handler that returned;
* no handler of it starts under a fence that was granted afterwards, nor a lease or more afterwards;
* at the end, its handler does not run any more.

Exempt:

* an end that a loss covers: an ended call may run again, as no living process need have heard of it;
* a start within a lease after the end, under an older fence: the answer that gave the session away was under way,
  and the next renewal tells the owner;
* an end before a jump of the clock by the retention or more: Redis forgets what has ended when that is over;
* a handler at the end that had less than a lease to hear of it, and the time that it may take to stop, since its
  session ended or the run healed; also where the history does not record when the session ended.
"""

from collections.abc import Sequence

from mediaflow.testing.checkers.losses import Records
from mediaflow.testing.checkers.reading import LONGEST_STOP_S, TERMINAL, every, final
from mediaflow.testing.history import AnyHappening, Healed, Recorded, Started, Stopped, Terms, Violation


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each record and each start, and the end."""
    records = Records(terms)
    messages: list[tuple[float, str]] = []
    returned: set[str] = set()
    for one in history:
        if isinstance(one, Stopped) and one.reason == "returned":
            returned.add(one.session_id)
        if isinstance(one, Recorded) and one.state == "completed" and one.session_id not in returned:
            messages.append((one.at_s, f"{one.session_id} is completed, and no handler of it had returned"))
        if isinstance(one, Recorded | Started):
            before = records.newest(one.session_id)
            if before and before.state in TERMINAL and _revives(one, before, terms):
                what = (
                    f"recorded as {one.state}"
                    if isinstance(one, Recorded)
                    else f"started on {one.instance_id}"
                )
                messages.append((one.at_s, f"{one.session_id} was {before.state}, and is then {what}"))
        records.take(one)
    messages += _still_running(history, records, terms)
    return [Violation(guarantee="terminal", at_s=at_s, message=message) for at_s, message in messages]


def _revives(one: Recorded | Started, before: Recorded, terms: Terms) -> bool:
    if isinstance(one, Recorded):
        return one.state not in (before.state, "forgotten")
    return one.fence > before.fence or one.at_s >= before.at_s + terms.lease_ttl_s


def _still_running(
    history: Sequence[AnyHappening], records: Records, terms: Terms
) -> list[tuple[float, str]]:
    end = final(history)
    if end is None:
        return []
    patience_s = terms.lease_ttl_s + LONGEST_STOP_S
    healed_s = max((one.at_s for one in every(history, Healed)), default=0.0)
    found: list[tuple[float, str]] = []
    for session in (one for sessions in end.calls.values() for one in sessions):
        record = records.newest(session.session_id)
        if session.state not in TERMINAL or not session.running_on or record is None:
            continue
        if record.state == session.state and end.at_s >= max(record.at_s, healed_s) + patience_s:
            where = ", ".join(session.running_on)
            found.append((end.at_s, f"{session.session_id} is {session.state}, and still runs on {where}"))
    return found
