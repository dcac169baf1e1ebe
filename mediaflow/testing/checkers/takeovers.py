"""G6: a session has a new owner within a lease and half a second of its owner's silence, and at once on drain.

Demanded:

* *Silence.* A process is killed, paused, or its requests to Redis are cut off, for the whole of the time in
  question. Each session that it owned has then been given to another within a lease and half a second; within
  ``crash_bound_s``, where that is set, if the process was killed and could be reached before.
* *Drain.* A session that a draining process gave up is given to another within half a second.

To be given is to be started elsewhere, or to be recorded as another's: a message that tells of it may be lost, and
the acceptance lease bounds that; :mod:`.leases` judges it. A session that ends meanwhile is no longer owed anything.

The claim is void where anything else is wrong, from a lease before the silence begins to the end of the bound:

* any other fault begins or ends, but of the balancer or its view of an instance; foul weather, a frozen Redis or a
  paused or dead watchdog lasts from before; so does a cut or pause of what is no instance;
* a process is told to drain (but the one in question), the run ends, or the silence does;
* the instances that are well have, at the beginning, fewer free slots than there are sessions to be moved, waiting,
  and asked for meanwhile;
* the session was started as often as takeovers are allowed: it may be parked;
* a client asked to end the call; or, on drain, the attempt failed, and waits for its back-off.
"""

from collections.abc import Iterator, Sequence

from mediaflow.testing.checkers.reading import FOREVER, SWIFT_S, Run, every
from mediaflow.testing.checkers.scene import Scene, Window
from mediaflow.testing.checkers.troubles import intervals, untroubled
from mediaflow.testing.history import AnyHappening, DrainAsked, Fault, Recorded, Terms, Violation

FAILED = frozenset({"raised", "failed"})
DONE = frozenset({"returned", "completed"})


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each silence and each drain."""
    scene = Scene(history, terms)
    found: list[Violation] = []
    for window, run in (*_silences(scene), *_handoffs(scene)):
        if not scene.is_moved(run.started, window):
            who = (
                f"{run.started.session_id} of {window.instance_id}, silent or drained at {window.from_s:.3f},"
            )
            message = f"{who} has no other owner at {window.to_s:.3f}"
            found.append(Violation(guarantee="G6", at_s=window.to_s, message=message))
    return found


def _silences(scene: Scene) -> Iterator[tuple[Window, Run]]:
    """Yield each session that somebody must take over because its owner fell silent."""
    terms = scene.terms
    for one in every(scene.history, Fault):
        is_silence = one.kind in ("killed", "paused") or (one.kind == "cut" and one.detail != "replies")
        if not is_silence:
            continue
        bound_s = terms.lease_ttl_s + SWIFT_S
        if one.kind == "killed" and terms.crash_bound_s and _could_be_reached(scene, one):
            bound_s = terms.crash_bound_s
        window = Window(one.target, one.at_s, one.at_s + bound_s + terms.slack_s)
        if (one.kind == "killed" or scene.is_silent(window)) and scene.is_calm(window, one):
            for run in scene.owned(window, dies=one.kind == "killed"):
                yield window, run


def _could_be_reached(scene: Scene, fault: Fault) -> bool:
    hidden = [interval for who, interval in intervals(scene.history, "unreachable") if who == fault.target]
    return untroubled({"": hidden}, "", fault.at_s - scene.terms.lease_ttl_s, fault.at_s)


def _handoffs(scene: Scene) -> Iterator[tuple[Window, Run]]:
    """Yield each session that somebody must take over because its owner drained."""
    for asked in every(scene.history, DrainAsked):
        for run in scene.runs:
            if run.started.instance_id != asked.instance_id or not run.spans(asked.at_s):
                continue
            given_s = _given_up_s(scene.history, run)
            if given_s is None or run.reason in FAILED | DONE | {"killed"}:
                continue
            window = Window(asked.instance_id, given_s, given_s + SWIFT_S + scene.terms.slack_s)
            if scene.is_calm(window, asked) and run.started.call_id not in scene.ended:
                yield window, run


def _given_up_s(history: Sequence[AnyHappening], run: Run) -> float | None:
    """Return when a session was given up: by its record, or when its handler stopped where none is there."""
    recorded = [one for one in every(history, Recorded) if one.session_id == run.started.session_id]
    if not recorded:
        return None if run.ended_s == FOREVER else run.ended_s
    given = (one.at_s for one in recorded if one.state == "pending" and not one.instance_id)
    return next((at_s for at_s in given if at_s >= run.ended_s), None)
