"""Checkers of who owns and runs what (G1, G4, G5, ends), against histories written by hand."""

import pytest
from simulation.written import (
    BOTH,
    broken,
    effect,
    fault,
    final,
    joined,
    recorded,
    shown,
    started,
    stopped,
    wrote,
)

from mediaflow.testing.checkers import assignment, drains, endings, keys, siblings, slots
from mediaflow.testing.history import DrainAsked, Healed, Left

# -- G1 assignment ---------------------------------------------------------------------------------------


def test_a_call_that_its_owner_runs_at_the_end_is_assigned():
    assert not broken(assignment, [*BOTH, started(10), final(60, shown())])


@pytest.mark.parametrize(
    "session",
    [
        shown("pending", who=""),
        shown("active", who="bob", running_on=()),
        shown("active", who="bob", running_on=("ann",)),
    ],
    ids=["pending", "owned and not run", "run by another than its owner"],
)
def test_a_call_that_no_owner_runs_is_rejected_while_there_is_room(session):
    history = [*BOTH, recorded(10, session.state, session.instance_id), final(60, session)]
    assert broken(assignment, history)


def test_a_call_may_wait_while_all_slots_are_taken():
    waiting = shown("pending", who="")
    assert not broken(assignment, [*BOTH, final(60, waiting, running={"ann": 2, "bob": 2})])
    assert broken(assignment, [*BOTH, final(60, waiting, running={"ann": 2, "bob": 1})])


def test_a_slot_that_was_freed_a_moment_ago_need_not_be_taken_yet():
    full = {"ann": 2, "bob": 1}
    history = [*BOTH, started(20, "bob", session="other"), stopped(59.9, "bob", "returned", session="other")]
    assert not broken(assignment, [*history, final(60, shown("pending", who=""), running=full)])
    assert broken(assignment, [*history, final(70, shown("pending", who=""), running=full)])


def test_a_failed_attempt_may_wait_out_its_back_off_and_no_longer():
    history = [*BOTH, started(20, attempt=2), stopped(50, reason="raised")]
    assert not broken(assignment, [*history, final(52, shown("pending", who=""))])
    assert broken(assignment, [*history, final(53, shown("pending", who=""))])


def test_a_call_that_was_only_just_asked_for_may_be_pending():
    history = [*BOTH, recorded(59, "pending", "", 0)]
    assert not broken(assignment, [*history, final(60, shown("pending", who=""))])


# -- G4 siblings -----------------------------------------------------------------------------------------

SENIOR = recorded(9, who="ann", session="s1", rank="1:ann")
JUNIOR = recorded(9.5, who="bob", session="s2", rank="2:bob", fence=20)
YIELDED = recorded(10, "yielded", "bob", 20, session="s2", rank="2:bob")


def test_a_junior_may_yield_to_a_live_senior():
    assert not broken(siblings, [SENIOR, JUNIOR, YIELDED])


@pytest.mark.parametrize(
    "senior",
    [
        [],
        [recorded(9, "pending", "ann", session="s1")],
        [recorded(9, "completed", session="s1")],
        [recorded(9, session="s1", accepted=False)],
        [recorded(9, session="s1", lease_s=0.0)],
        [recorded(9, session="s1", rank="3:ann")],
        [recorded(9, session="s1", call="another")],
        [SENIOR, fault(9.2, "emptied")],
    ],
    ids=["none", "pending", "ended", "not accepted", "lapsed", "junior", "of another call", "forgotten"],
)
def test_a_yield_without_a_live_senior_is_rejected(senior):
    assert broken(siblings, [*senior, JUNIOR, YIELDED])


DONE = recorded(10, "completed", "bob", 20, session="s2", rank="2:bob", script="complete")


def overruled(**more):
    """Return the record of a sibling that ``s2`` cancelled when it completed: its lease ran for two seconds more."""
    rank = more.pop("rank", "1:ann")
    return recorded(10, "cancelled", session="s1", rank=rank, lease_before_s=2.0, script="complete", **more)


def test_a_junior_that_is_done_does_not_end_the_session_of_its_senior():
    assert broken(siblings, [SENIOR, JUNIOR, DONE, overruled()])
    assert broken(siblings, [SENIOR, JUNIOR, overruled(), DONE])


@pytest.mark.parametrize(
    ("before", "cancelled"),
    [
        (recorded(9, session="s1", rank="3:ann"), overruled(rank="3:ann")),
        (recorded(9, "pending", "", 0, session="s1"), overruled()),
        (recorded(9, session="s1", accepted=False), overruled()),
        (SENIOR, recorded(10, "cancelled", session="s1", rank="1:ann", script="complete")),
        (SENIOR, recorded(10, "cancelled", session="s1", rank="1:ann", lease_before_s=2.0, script="cancel")),
    ],
    ids=["junior itself", "pending", "not accepted", "lapsed", "asked for"],
)
def test_whoever_is_done_ends_a_sibling_that_is_not_a_running_senior(before, cancelled):
    assert not broken(siblings, [before, JUNIOR, DONE, cancelled])


def test_siblings_that_yield_to_each_other_are_rejected():
    assert broken(siblings, [SENIOR, JUNIOR, recorded(10, "yielded", session="s1"), YIELDED])


def test_a_pending_session_yields_to_any_that_is_active():
    waiting = recorded(9.5, "pending", "", 0, session="s2")
    running = recorded(9, session="s1", rank="3:ann")
    assert not broken(siblings, [running, waiting, recorded(10, "yielded", "", 0, session="s2")])
    renewing = recorded(10, "yielded", "bob", 20, session="s2", rank="2:bob", script="renew")
    assert broken(siblings, [running, waiting, renewing])


def test_a_live_call_ends_with_one_live_session():
    assert not broken(siblings, [final(60, shown("yielded", session="s1"), shown(session="s2"))])
    assert broken(siblings, [final(60, shown(session="s1"), shown(session="s2"))])
    assert broken(siblings, [final(60, shown("yielded", session="s1"), shown("yielded", session="s2"))])


def test_a_pending_sibling_may_wait_for_its_turn_to_yield():
    ends = [shown(session="s1"), shown("pending", who="", session="s2")]
    assert broken(siblings, [*BOTH, final(60, *ends)])
    assert not broken(siblings, [*BOTH, final(60, *ends, running={"ann": 2, "bob": 2})])
    asked = recorded(59, "pending", "", 0, session="s2")
    assert not broken(siblings, [*BOTH, asked, final(60, *ends)])


def test_only_the_owner_runs_a_session_at_the_end():
    two = shown(running_on=("ann", "bob"))
    assert broken(siblings, [started(20), Healed(at_s=30), final(60, two)])
    assert not broken(siblings, [Healed(at_s=30), started(45), final(60, two)])
    assert not broken(siblings, [started(20), Healed(at_s=45), final(60, two)])


def test_a_survivor_whose_writes_are_refused_is_rejected():
    writes = [wrote(at_s, number=at_s) for at_s in range(20, 25)]
    others = [wrote(at_s, session="other", call="d") for at_s in range(31, 60)]
    history = [started(19), *writes, Healed(at_s=30), *others]
    assert broken(siblings, [*history, final(60, shown())])
    assert not broken(siblings, [*history, wrote(59.5, number=99), final(60, shown())])


@pytest.mark.parametrize(
    "change",
    [
        lambda history: [one for one in history if getattr(one, "session_id", "") != "other"],
        lambda history: [one for one in history if getattr(one, "number", 0) < 22],
        lambda history: [effect(18, what="hangs"), *history],
        lambda history: [one for one in history if one.at_s < 41],
    ],
    ids=["nobody writes", "it never wrote regularly", "it hangs", "it was not given time"],
)
def test_a_survivor_that_is_silent_for_another_reason_is_excused(change):
    writes = [wrote(at_s, number=at_s) for at_s in range(20, 25)]
    others = [wrote(at_s, session="other", call="d") for at_s in range(31, 60)]
    history = change([started(19), *writes, Healed(at_s=30), *others])
    assert not broken(siblings, [*history, final(history[-1].at_s, shown())])


# -- G5 slots --------------------------------------------------------------------------------------------

THREE = [started(10, session="s1"), started(11, session="s2"), started(12, session="s3")]


def test_more_sessions_than_slots_are_rejected():
    assert not broken(slots, [*BOTH, *THREE[:2]])
    assert broken(slots, [*BOTH, *THREE])


def test_a_slot_is_free_again_when_its_handler_or_its_process_ended():
    assert not broken(slots, [*BOTH, *THREE[:2], stopped(11.5, session="s1"), *THREE[2:]])
    assert not broken(slots, [*BOTH, *THREE[:2], fault(11.5, "killed", "ann"), *THREE[2:]])
    gone = Left(at_s=11.5, instance_id="ann", process=1, reason="drained")
    assert not broken(slots, [*BOTH, *THREE[:2], gone, *THREE[2:]])


def test_each_process_has_its_own_slots():
    again = [joined(11.5, process=2), started(12, session="s3", incarnation=2)]
    assert not broken(slots, [*BOTH, *THREE[:2], *again])


def test_a_session_that_was_forgotten_for_good_is_given_up_on_and_one_that_was_put_back_is_not():
    forgotten = recorded(11.5, "forgotten", "", 0, session="s1")
    late = started(21.6, session="s3")
    assert not broken(slots, [*BOTH, *THREE[:2], forgotten, late])
    assert broken(slots, [*BOTH, *THREE[:2], forgotten, recorded(11.6, session="s1"), late])


def test_a_process_that_nobody_saw_joining_is_not_judged():
    assert not broken(slots, THREE)


def test_a_handler_that_ignores_its_end_is_given_up_on_after_ten_seconds():
    lost = recorded(11.5, who="bob", fence=20, session="s1")
    late = started(21.6, session="s3")
    assert broken(slots, [*BOTH, *THREE[:2], late])
    assert not broken(slots, [*BOTH, *THREE[:2], lost, late])
    assert broken(slots, [*BOTH, *THREE[:2], lost, started(21.4, session="s3")])
    assert not broken(slots, [*BOTH, *THREE[:2], started(12, session="s1")])


# -- every drain ends ------------------------------------------------------------------------------------

DRAIN = DrainAsked(at_s=10, instance_id="ann", process=1)


def left(at_s, reason, process=1):
    return Left(at_s=at_s, instance_id="ann", process=process, reason=reason)


def test_a_drain_that_ends_is_accepted():
    assert not broken(drains, [*BOTH, DRAIN, left(11, "drained"), final(60)])


@pytest.mark.parametrize("end", [[], [left(11, "aborted")], [left(11, "drained", process=2)]])
def test_a_drain_that_never_ends_is_rejected(end):
    assert broken(drains, [*BOTH, DRAIN, *end, final(60)])


@pytest.mark.parametrize(
    "excuse",
    [
        [left(11, "killed"), final(60)],
        [fault(11, "killed", "ann"), final(60)],
        [fault(11, "paused", "ann"), final(60)],
        [final(17.9)],
        [Healed(at_s=55), final(60)],
    ],
    ids=["left killed", "killed", "paused for ever", "too soon", "healed too late"],
)
def test_a_drain_that_could_not_end_is_excused(excuse):
    assert not broken(drains, [*BOTH, DRAIN, *excuse])


def test_a_pause_that_ended_is_no_excuse_for_a_drain():
    assert broken(drains, [*BOTH, DRAIN, fault(11, "paused", "ann"), fault(12, "resumed", "ann"), final(60)])


# -- terminal sessions stay ended ------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled", "yielded"])
def test_an_ended_session_is_never_recorded_as_anything_else(state):
    ended = [stopped(9.9, reason="returned"), recorded(10, state)]
    assert not broken(endings, [*ended, recorded(11, state), recorded(12, "forgotten")])
    assert broken(endings, [*ended, recorded(11)])
    assert broken(endings, [*ended, recorded(11, "pending", "")])
    assert broken(endings, [*ended, recorded(11, "completed" if state != "completed" else "failed")])


def test_a_session_is_completed_only_by_a_handler_that_returned():
    assert not broken(endings, [started(9), stopped(9.9, reason="returned"), recorded(10, "completed")])
    assert broken(endings, [started(9), stopped(9.9, reason="drained"), recorded(10, "completed")])
    assert broken(endings, [started(9), recorded(10, "completed")])
    other = stopped(9.9, reason="returned", session="other")
    assert broken(endings, [started(9), other, recorded(10, "completed")])


@pytest.mark.parametrize(
    ("forgets", "is_excused"),
    [
        (fault(11, "emptied"), True),
        (fault(11, "rolled back", detail="2"), True),
        (fault(11, "rolled back", detail="0.5"), False),
        (fault(11, "clock jumped", detail="3600"), True),
        (fault(11, "clock jumped", detail="5"), False),
    ],
    ids=["emptied", "rolled back past it", "rolled back, not so far", "past the retention", "a small jump"],
)
def test_an_end_may_be_forgotten_only_with_what_held_it(forgets, is_excused):
    history = [recorded(9), recorded(10, "cancelled"), forgets, recorded(12, fence=20)]
    assert bool(broken(endings, history)) != is_excused


def test_an_ended_session_starts_only_from_an_answer_that_was_under_way():
    ended = recorded(10, "cancelled", fence=10)
    assert not broken(endings, [ended, started(12.9, fence=10)])
    assert broken(endings, [ended, started(13.0, fence=10)])
    assert broken(endings, [ended, started(10.1, fence=11)])


def test_the_handler_of_an_ended_session_does_not_run_for_ever():
    ghost = shown("cancelled", running_on=("ann",))
    assert broken(endings, [recorded(20, "cancelled"), Healed(at_s=22), final(60, ghost)])
    assert not broken(endings, [Healed(at_s=22), recorded(45, "cancelled"), final(60, ghost)])
    assert not broken(endings, [recorded(20, "cancelled"), Healed(at_s=45), final(60, ghost)])
    assert not broken(endings, [final(60, ghost)])


# -- keys ------------------------------------------------------------------------------------------------


def test_a_key_that_belongs_to_nothing_is_rejected():
    assert not broken(keys, [final(60)])
    assert broken(keys, [fault(10, "emptied"), final(60, stray_keys=("mf:{x}:session:1",))])
