"""G5: an instance never runs more sessions than its slots.

Demanded: the sessions whose handlers run at once in one process are never more than the slots with which it joined.
No fault exempts from it: capacity is local knowledge.

A process is told apart by its incarnation. Its slots are those of the newest process of its id that had joined when
it was first seen to run something; one of which no ``Joined`` is known is not judged.

Exempt: handlers that were given up on. One that ignores its cancellation for ten seconds keeps no slot; it may go on
for ever, and only its writes can be kept out. So a handler does not count any more ten seconds after its session is
recorded as ended or another's, or was forgotten for good, nor once another one runs the same session in the same
process.
"""

from collections import defaultdict
from collections.abc import Sequence

from mediaflow.testing.checkers.reading import FOREVER, LIVE, Run, every, runs
from mediaflow.testing.history import AnyHappening, Joined, Recorded, Terms, Violation

PATIENCE_S = 10.0


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:  # noqa: ARG001 - as all checkers
    """Judge each start of a handler."""
    joined = every(history, Joined)
    records: defaultdict[str, list[Recorded]] = defaultdict(list)
    for record in every(history, Recorded):
        records[record.session_id].append(record)
    slots_of: dict[tuple[str, int], int | None] = {}
    running: defaultdict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    found: list[Violation] = []
    for run in runs(history):
        who, at_s = (run.started.instance_id, run.started.incarnation), run.started.at_s
        if who not in slots_of:
            before = [one.slots for one in joined if one.instance_id == who[0] and one.at_s <= at_s]
            slots_of[who] = before[-1] if before else None
        counted = {one: until_s for one, until_s in running[who].items() if until_s > at_s}
        counted[run.started.session_id] = min(run.ended_s, _given_up_s(run, records[run.started.session_id]))
        running[who] = counted
        slots = slots_of[who]
        if slots is not None and len(counted) > slots:
            message = (
                f"{who[0]} runs {len(counted)} sessions in {slots} slots, {run.started.session_id} the last"
            )
            found.append(Violation(guarantee="G5", at_s=at_s, message=message))
    return found


def _given_up_s(run: Run, records: Sequence[Recorded]) -> float:
    """Return from when on a handler that goes on is surely known to be given up on."""
    who = run.started.instance_id, run.started.incarnation
    later = [one for one in records if one.at_s > run.started.at_s]
    for number, one in enumerate(later):
        is_away = one.state == "active" and (one.instance_id, one.incarnation) != who
        # A forgotten session may be put back by its owner; if it never is, the owner was told that it must not be.
        stays_away = one.state == "forgotten" and all(after.state == "forgotten" for after in later[number:])
        if stays_away or is_away or (one.state not in LIVE and one.state != "forgotten"):
            return one.at_s + PATIENCE_S
    return FOREVER
