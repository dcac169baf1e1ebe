"""All checkers at once: a long history in which all goes well passes, whoever wrote it."""

from simulation.written import (
    TERMS,
    answered,
    effect,
    fault,
    joined,
    recorded,
    started,
    stopped,
    submitted,
    wrote,
)

from mediaflow.testing import checkers
from mediaflow.testing.history import (
    AnyHappening,
    DrainAsked,
    EndAnswered,
    EndAsked,
    Final,
    FinalSession,
    Healed,
    Left,
    Recorded,
)

CALLS = [f"call-{number}" for number in range(4)]


def work(session: str, call: str, who: str, fence: int, seconds: range) -> list[AnyHappening]:
    """Write down what a handler does that saves its progress each second."""
    done: list[AnyHappening] = []
    for second in seconds:
        done.append(effect(second + 0.3, who, fence, session=session))
        done.append(wrote(second + 0.31, who, fence, second, session=session, call=call))
    return done


def healthy_run() -> list[AnyHappening]:
    """Four calls: one ends by itself, one by its client, one outlives its owner, one a drain."""
    happened: list[AnyHappening] = [joined(0.0), joined(0.0, "bob"), joined(1.0, "cid")]
    for number, call in enumerate(CALLS):
        at_s, who, session = 5.0 + number, ("ann", "bob")[number % 2], f"s-{call}"
        happened += [
            submitted(at_s, number, f"key-{call}", call),
            recorded(at_s + 0.01, who=who, fence=10, session=session, call=call),
            started(at_s + 0.02, who, 10, session=session, call=call),
            answered(at_s + 0.03, number, session, call=call),
        ]
    happened += work("s-call-0", "call-0", "ann", 10, range(10, 20))
    happened += [stopped(20, reason="returned", session="s-call-0")]
    happened += [recorded(20.01, "completed", session="s-call-0", call="call-0")]
    happened += work("s-call-1", "call-1", "bob", 10, range(10, 15))
    happened += [EndAsked(at_s=15.5, request=20, call_id="call-1")]
    happened += [recorded(15.51, "cancelled", "bob", session="s-call-1", call="call-1")]
    happened += [EndAnswered(at_s=15.52, request=20, call_id="call-1", status=204)]
    happened += [stopped(15.6, "bob", "cancelled", session="s-call-1")]
    happened += work("s-call-2", "call-2", "ann", 10, range(10, 30))
    happened += [fault(30, "killed", "ann"), stopped(30, reason="killed", session="s-call-2")]
    happened += [Left(at_s=30, instance_id="ann", process=1, reason="killed")]
    happened += moved("s-call-2", "call-2", "ann", "cid", 32.5, 29)
    happened += [DrainAsked(at_s=40, instance_id="bob", process=1)]
    happened += work("s-call-3", "call-3", "bob", 10, range(10, 40))
    happened += [stopped(40.01, "bob", "drained", session="s-call-3")]
    happened += moved("s-call-3", "call-3", "", "cid", 40.02, 39)
    happened += [Left(at_s=40.1, instance_id="bob", process=1, reason="drained")]
    happened += work("s-call-2", "call-2", "cid", 20, range(33, 80))
    happened += work("s-call-3", "call-3", "cid", 20, range(41, 80))
    happened += [Healed(at_s=50), end()]
    return sorted(happened, key=lambda one: one.at_s)


def moved(session: str, call: str, last_owner: str, to: str, at_s: float, saved: int) -> list[AnyHappening]:
    """Write down a takeover: swept or released, offered, accepted, started."""
    offer: Recorded = recorded(
        at_s + 0.01, who=to, fence=20, session=session, call=call, accepted=False, lease_s=1.0
    )
    return [
        recorded(at_s, "pending", last_owner, 10, session=session, call=call),
        offer,
        recorded(at_s + 0.02, who=to, fence=20, session=session, call=call),
        started(at_s + 0.03, to, 20, session=session, call=call, resumed=saved),
    ]


def end() -> Final:
    states = {"call-0": "completed", "call-1": "cancelled", "call-2": "active", "call-3": "active"}
    calls = {
        call: (
            FinalSession(
                session_id=f"s-{call}",
                state=state,
                instance_id="cid" if state == "active" else "ann",
                fence=20,
                running_on=("cid",) if state == "active" else (),
            ),
        )
        for call, state in states.items()
    }
    return Final(at_s=80, calls=calls, slots={"cid": 2}, running={"cid": 2})


def test_a_long_run_in_which_all_goes_well_passes_every_checker():
    assert not checkers.check_all(healthy_run(), TERMS)


def test_a_history_without_records_or_an_end_passes_as_well():
    seen_by_workers = [one for one in healthy_run() if not isinstance(one, Recorded | Final)]
    assert not checkers.check_all(seen_by_workers, TERMS)


def test_an_empty_history_passes():
    assert not checkers.check_all([], TERMS)


def test_what_breaks_several_promises_is_told_in_the_order_of_time():
    history = healthy_run()
    history.insert(len(history) - 1, wrote(79.9, "ann", 10, 5, session="s-call-2", call="call-2"))
    found = checkers.check_all([one for one in history if not isinstance(one, Left)], TERMS)
    assert {one.guarantee for one in found} >= {"G3", "drain"}
    assert [one.at_s for one in found] == sorted(one.at_s for one in found)


def test_every_checker_is_asked():
    asked = {check.__module__.rpartition(".")[2] for check in checkers.ALL}
    assert asked == {
        "answers",
        "assignment",
        "drains",
        "effects",
        "endings",
        "fences",
        "keys",
        "leases",
        "siblings",
        "slots",
        "storms",
        "survivors",
        "takeovers",
    }
