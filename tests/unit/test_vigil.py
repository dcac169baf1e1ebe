"""The watchdog's decisions: who counts as dead, when leases may be swept, when to look again."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.core.lease import MIN_TTL_S
from mediaflow.core.vigil import (
    MEMORY_S,
    MIN_TICK_INTERVAL_S,
    PAUSE_PER_POLL,
    POLL_INTERVAL_S,
    QUIET_S,
    REVIVAL_S,
    TICK_INTERVAL_S,
    Answered,
    Done,
    Hinted,
    Lost,
    Polled,
    Reached,
    Refused,
    Seen,
    StrikeOff,
    SweepDead,
    Ticked,
    Vigil,
    step,
)
from mediaflow.runtime.registration import HEARTBEAT_INTERVAL_S

WATCH_S = 3.0


def after(*events, vigil=None):
    """Take in ``(now_s, event)`` pairs, and discharge nothing."""
    vigil = vigil or Vigil(watch_s=WATCH_S)
    for now_s, event in events:
        vigil = step(vigil, event, now_s)
    return vigil


def seen(incarnation=1, *, beat_at_s=0.0, alive=True, name="a"):
    return Seen(name, incarnation, alive, beat_at_s)


def settled(vigil):
    """The same with all duties done."""
    return dataclasses.replace(vigil, owed={})


# -- warm-up ------------------------------------------------------------------------------------


def test_a_watchdog_that_just_started_lets_owners_renew_first():
    vigil = after((10.0, Answered(1)))
    assert not vigil.may_sweep(10.0 + WATCH_S - 0.001)
    assert vigil.may_sweep(10.0 + WATCH_S)


@pytest.mark.parametrize(
    "interruption",
    [
        [(20.0, Lost()), (20.5, Answered(1))],  # it was away
        [(20.5, Answered(2))],  # it is another one, or lost its data
    ],
)
def test_after_redis_was_away_or_replaced_owners_may_renew_first(interruption):
    vigil = after((10.0, Answered(1)), *interruption)
    assert not vigil.may_sweep(20.5 + WATCH_S - 0.001)
    assert vigil.may_sweep(20.5 + WATCH_S)


def test_nothing_is_swept_while_redis_does_not_answer():
    assert not after((10.0, Answered(1)), (20.0, Lost())).may_sweep(1000.0)


def test_answers_in_good_days_do_not_prolong_the_warm_up():
    vigil = after((10.0, Answered(1)), (11.0, Answered(1)), (12.9, Answered(1)))
    assert vigil.may_sweep(13.0)


# -- proof of death -------------------------------------------------------------------------------


def test_a_refused_connection_to_a_reached_incarnation_is_a_death():
    vigil = after((0.0, Answered(1)), (0.0, Polled([seen(7)])), (0.1, Reached("a", 7)))
    vigil = after((1.0, Refused("a", 7)), vigil=settled(vigil))
    assert vigil.duties == (SweepDead("a", 8, "process died"), StrikeOff("a", 7, "process died"))
    assert not vigil.may_place("a")


@pytest.mark.parametrize("reached", [[], [(0.1, Reached("a", 6))], [(0.1, Reached("b", 7))]])
def test_a_refused_connection_to_one_never_reached_proves_nothing(reached):
    vigil = after((0.0, Answered(1)), (0.0, Polled([seen(7)])), *reached)
    vigil = after((1.0, Refused("a", 7)), vigil=settled(vigil))
    assert vigil.duties == ()
    assert vigil.may_place("a")


def test_a_death_needs_no_warm_up():
    vigil = after(
        (0.0, Answered(1)), (0.0, Polled([seen(7)])), (0.0, Reached("a", 7)), (0.1, Refused("a", 7))
    )
    assert SweepDead("a", 8, "process died") in vigil.duties


def test_a_restarted_instance_has_its_predecessors_sessions_swept():
    vigil = settled(after((0.0, Answered(1)), (0.0, Polled([seen(7)])), (0.1, Reached("a", 7))))
    vigil = after((1.0, Polled([seen(9, beat_at_s=1.0)])), vigil=vigil)
    assert vigil.duties == (SweepDead("a", 9, "restarted"),)
    assert vigil.may_place("a")
    assert after((1.1, Refused("a", 7)), vigil=settled(vigil)).duties == ()


def test_a_watchdog_that_just_started_sweeps_the_predecessors_of_each_instance_once():
    vigil = after((0.0, Answered(1)), (0.0, Polled([seen(7), seen(3, name="b")])))
    assert set(vigil.duties) == {SweepDead("a", 7, "restarted"), SweepDead("b", 3, "restarted")}
    assert after((1.0, Polled([seen(7), seen(3, name="b")])), vigil=settled(vigil)).duties == ()


def test_a_dead_one_that_the_registry_still_shows_is_given_nothing():
    vigil = after(
        (0.0, Answered(1)), (0.0, Polled([seen(7)])), (0.0, Reached("a", 7)), (1.0, Refused("a", 7))
    )
    late_beat_s = 1.0 + REVIVAL_S / 2
    assert not after((2.0, Polled([seen(7, beat_at_s=late_beat_s)])), vigil=vigil).may_place("a")


def test_a_dead_one_that_left_and_was_put_back_by_a_late_heartbeat_is_given_nothing():
    vigil = after(
        (0.0, Answered(1)), (0.0, Polled([seen(7)])), (0.0, Reached("a", 7)), (1.0, Refused("a", 7))
    )
    vigil = after((1.1, Polled([])), (1.2, Polled([seen(7, beat_at_s=1.05)])), vigil=vigil)
    assert not vigil.may_place("a")
    assert "a" not in after((1.0 + MEMORY_S, Polled([])), vigil=vigil).dead


def test_a_false_alarm_heals_with_a_later_heartbeat():
    vigil = after(
        (0.0, Answered(1)), (0.0, Polled([seen(7)])), (0.0, Reached("a", 7)), (1.0, Refused("a", 7))
    )
    vigil = after((2.0, Polled([seen(7, beat_at_s=1.0 + REVIVAL_S)])), vigil=vigil)
    assert vigil.may_place("a")


def test_an_expired_heartbeat_strikes_off_but_only_once_owners_could_have_beaten():
    gone = Polled([seen(7, alive=False)])
    vigil = after((0.0, Answered(1)), (0.1, gone))
    assert vigil.duties == (SweepDead("a", 7, "restarted"),)
    assert after((WATCH_S, gone), vigil=settled(vigil)).duties == (StrikeOff("a", 7, "heartbeat expired"),)


def test_whose_leases_lapse_though_its_renewals_came_late_counts_as_quiet_by_then():
    """The renewals of a third of the shortest lease are spread, and come later still on a busy machine."""
    late_s = 0.3
    assert HEARTBEAT_INTERVAL_S + late_s < QUIET_S < MIN_TTL_S * (1 - 1.1 / 3) - late_s


def test_an_instance_gone_quiet_is_given_nothing_before_its_heartbeat_expires():
    last = Polled([seen(7, beat_at_s=0.0)])
    vigil = after((0.0, Answered(1)), (0.0, last))
    assert after((QUIET_S, last), vigil=vigil).may_place("a")
    assert not after((QUIET_S + 0.01, last), vigil=vigil).may_place("a")
    assert not vigil.may_place("unheard of")


# -- duties ---------------------------------------------------------------------------------------


def test_a_duty_is_owed_until_it_is_done_and_the_newest_stands_for_all():
    vigil = after((0.0, Answered(1)), (0.0, Polled([seen(7)])), (1.0, Lost()), (2.0, Answered(1)))
    assert vigil.duties == (SweepDead("a", 7, "restarted"),)
    vigil = after((3.0, Polled([seen(9)])), vigil=vigil)
    assert vigil.duties == (SweepDead("a", 9, "restarted"),)
    assert after((4.0, Done(SweepDead("a", 7, "restarted"))), vigil=vigil).duties == vigil.duties
    assert after((4.0, Done(SweepDead("a", 9, "restarted"))), vigil=vigil).duties == ()


# -- when to look again -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ticked", "wait_s"),
    [
        (Ticked(None, None, unfinished=False), TICK_INTERVAL_S),
        (Ticked(30.0, 40.0, unfinished=False), TICK_INTERVAL_S),
        (Ticked(0.2, None, unfinished=False), 0.2),
        (Ticked(None, 0.3, unfinished=False), 0.3),
        (Ticked(0.0, None, unfinished=False), MIN_TICK_INTERVAL_S),
        (Ticked(None, None, unfinished=True), MIN_TICK_INTERVAL_S),
    ],
)
def test_the_next_tick_keeps_pace_and_meets_what_is_due(ticked, wait_s):
    vigil = after((0.0, Answered(1)), (100.0, ticked))
    assert vigil.tick_at_s == pytest.approx(100.0 + wait_s)


def test_a_lease_that_cannot_be_swept_yet_does_not_hurry_the_watchdog():
    vigil = after((0.0, Answered(1)), (1.0, Ticked(0.01, None, unfinished=False)))
    assert vigil.tick_at_s == pytest.approx(1.0 + TICK_INTERVAL_S)


def test_a_hint_is_acted_upon_at_once_but_a_flood_of_them_is_not_a_flood_of_ticks():
    vigil = after((0.0, Answered(1)), (10.0, Ticked(None, None, unfinished=False)))
    assert after((10.2, Hinted(registry=False)), vigil=vigil).wake_at_s() <= 10.2
    flooded = after((10.001, Hinted(registry=False)), vigil=after((10.0, Polled([])), vigil=vigil))
    assert flooded.wake_at_s() == pytest.approx(10.0 + MIN_TICK_INTERVAL_S)


def test_hints_of_a_fleet_that_takes_long_to_read_do_not_have_it_read_all_the_time():
    vigil = after((0.0, Answered(1)), (10.0, Polled([], took_s=0.1)), (10.0, Hinted(registry=True)))
    assert vigil.poll_at_s == pytest.approx(10.0 + PAUSE_PER_POLL * 0.1)
    slow = after((0.0, Answered(1)), (10.0, Polled([], took_s=3.0)), (10.0, Hinted(registry=True)))
    assert slow.poll_at_s == pytest.approx(10.0 + POLL_INTERVAL_S)


def test_who_says_that_it_drains_is_given_nothing_though_the_registry_was_read_before():
    vigil = after((0.0, Answered(1)), (1.0, Polled([seen(7, beat_at_s=0.9)])))
    assert vigil.may_place("a")
    vigil = after((1.01, Hinted(registry=True, draining="a")), vigil=vigil)
    assert not vigil.may_place("a")
    was_under_way = after((1.02, Polled([seen(7, beat_at_s=0.9)], took_s=0.05)), vigil=vigil)
    assert not was_under_way.may_place("a")
    assert after((1.1, Polled([seen(7, beat_at_s=1.01)], took_s=0.05)), vigil=was_under_way).may_place("a")


times = st.floats(0, 100, allow_nan=False)
events = st.one_of(
    st.builds(Answered, st.integers(1, 3)),
    st.just(Lost()),
    st.builds(Hinted, st.booleans()),
    st.builds(Ticked, st.none() | st.floats(0, 50), st.none() | st.floats(0, 50), st.booleans()),
    st.builds(
        Polled,
        st.lists(
            st.builds(Seen, st.sampled_from("ab"), st.integers(1, 4), st.booleans(), times),
            max_size=2,
            unique_by=lambda one: one.instance_id,
        ),
    ),
    st.builds(Reached, st.sampled_from("ab"), st.integers(1, 4)),
    st.builds(Refused, st.sampled_from("ab"), st.integers(1, 4)),
)


@given(st.lists(st.tuples(st.floats(0, 2), events), max_size=40))
def test_whatever_happens_lease_time_keeps_pace_and_the_living_are_not_swept(history):
    vigil = Vigil(watch_s=WATCH_S)
    now_s = 1000.0
    for wait_s, event in history:
        now_s += wait_s
        before = vigil
        vigil = step(vigil, event, now_s)
        if isinstance(event, Ticked):
            assert now_s < vigil.tick_at_s <= now_s + TICK_INTERVAL_S
        if isinstance(event, Polled):
            assert vigil.poll_at_s <= now_s + POLL_INTERVAL_S
        for duty in set(vigil.duties) - set(before.duties):
            if isinstance(duty, SweepDead) and duty.reason == "process died":
                assert before.reached[duty.instance_id] == duty.before_incarnation - 1
            elif isinstance(duty, SweepDead):
                assert vigil.incarnations[duty.instance_id] == duty.before_incarnation
            elif duty.reason == "heartbeat expired":
                assert vigil.may_sweep(now_s)
