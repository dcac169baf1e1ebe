"""Every drain ends: a process that was told to drain leaves, having drained.

Demanded: ``DrainAsked`` is followed by ``Left`` of that process, with the reason ``drained``, before the history
ends. Redis being away is no excuse: what it does not hear of is left to its lease.

Exempt:

* the process is killed before it has drained, by a fault or as ``Left`` tells;
* it is paused until the end: its code gets no time;
* the history ends too soon to tell: less than a lease and five seconds (two goodbyes to a Redis that does not
  answer) after the drain was asked for, or after the run healed.
"""

from collections.abc import Sequence

from mediaflow.testing.checkers.reading import FOREVER, every
from mediaflow.testing.checkers.troubles import intervals
from mediaflow.testing.history import AnyHappening, DrainAsked, Fault, Healed, Left, Terms, Violation

GOODBYE_S = 5.0


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each drain."""
    found: list[Violation] = []
    healed_s = max((one.at_s for one in every(history, Healed)), default=0.0)
    stuck = {who for who, interval in intervals(history, "paused") if interval.to_s == FOREVER}
    for index, asked in enumerate(history):
        if not isinstance(asked, DrainAsked):
            continue
        reason = next((how for one in history[index:] if (how := _how_it_left(one, asked))), None)
        too_soon = (
            history[-1].at_s < max(asked.at_s, healed_s) + terms.lease_ttl_s + GOODBYE_S + terms.slack_s
        )
        if reason in ("drained", "killed") or (reason is None and (too_soon or asked.instance_id in stuck)):
            continue
        outcome = f"was {reason}" if reason else "never left"
        message = f"process {asked.process} of {asked.instance_id} was told to drain, but {outcome}"
        found.append(Violation(guarantee="drain", at_s=asked.at_s, message=message))
    return found


def _how_it_left(one: AnyHappening, asked: DrainAsked) -> str | None:
    if isinstance(one, Left) and (one.instance_id, one.process) == (asked.instance_id, asked.process):
        return one.reason
    if isinstance(one, Fault) and one.kind == "killed" and one.target == asked.instance_id:
        return "killed"
    return None
