"""Words to write histories with: of call ``c``, session ``s``, unless they say otherwise."""

from collections.abc import Sequence

from mediaflow.testing.history import (
    Answered,
    AnyHappening,
    Effect,
    Fault,
    Final,
    FinalSession,
    Joined,
    Recorded,
    Started,
    Stopped,
    Submitted,
    Terms,
    Wrote,
)

TERMS = Terms(lease_ttl_s=3.0, accept_ttl_s=1.0, max_attempts=3, max_takeovers=5)

History = Sequence[AnyHappening]
SLOTS = {"ann": 2, "bob": 2}


def broken(checker, history: History, terms: Terms = TERMS) -> list[str]:
    """Return what a checker says of a history that is in order."""
    assert [one.at_s for one in history] == sorted(one.at_s for one in history), "written in the wrong order"
    return [violation.message for violation in checker.check(history, terms)]


def joined(at_s, who="ann", process=1):
    return Joined(at_s=at_s, instance_id=who, process=process, slots=SLOTS.get(who, 2))


def started(at_s, who="ann", fence=10, *, session="s", call="c", incarnation=1, attempt=1, resumed=None):
    return Started(
        at_s=at_s,
        call_id=call,
        session_id=session,
        instance_id=who,
        incarnation=incarnation,
        fence=fence,
        attempt=attempt,
        resumed=resumed,
    )


def stopped(at_s, who="ann", reason="lost", *, session="s", incarnation=1):
    return Stopped(
        at_s=at_s, call_id="c", session_id=session, instance_id=who, incarnation=incarnation, reason=reason
    )


def wrote(at_s, who="ann", fence=10, number=1, *, session="s", call="c", kind="checkpoint"):
    return Wrote(
        at_s=at_s,
        call_id=call,
        session_id=session,
        instance_id=who,
        incarnation=1,
        fence=fence,
        number=number,
        kind=kind,
    )


def recorded(at_s, state="active", who="ann", fence=10, *, session="s", call="c", lease_s=3.0, **more):
    return Recorded(
        at_s=at_s,
        call_id=call,
        session_id=session,
        state=state,
        instance_id=who,
        incarnation=more.pop("incarnation", 1 if who else 0),
        fence=fence,
        accepted=more.pop("accepted", state == "active"),
        rank=more.pop("rank", f"1:{who}" if who else ""),
        lease_s=lease_s if state == "active" else 0.0,
        **more,
    )


def submitted(at_s, request=1, key="k", call="c"):
    return Submitted(at_s=at_s, request=request, call_id=call, key=key)


def answered(at_s, request=1, session="s", status=201, *, call="c", created=True):
    return Answered(
        at_s=at_s, request=request, call_id=call, status=status, session_id=session, created=created
    )


def effect(at_s, who="ann", fence=10, *, checked=True, what="", session="s"):
    return Effect(
        at_s=at_s, call_id="c", session_id=session, instance_id=who, fence=fence, checked=checked, what=what
    )


def fault(at_s, kind, target="", detail=""):
    return Fault(at_s=at_s, kind=kind, target=target, detail=detail)


def shown(state="active", who="ann", running_on=None, *, session="s", fence=10):
    runs_there = ((who,) if state == "active" else ()) if running_on is None else running_on
    return FinalSession(session_id=session, state=state, instance_id=who, fence=fence, running_on=runs_there)


def final(at_s, *sessions, call="c", running=None, stray_keys=()):
    calls = {call: tuple(sessions)} if sessions else {}
    return Final(at_s=at_s, calls=calls, slots=SLOTS, running=running or {}, stray_keys=stray_keys)


BOTH = (joined(0.0), joined(0.0, "bob"))
"""Two instances that have been there for long when things happen, from 10 s on."""
