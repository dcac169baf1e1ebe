"""The owner's decisions: what it does when Redis answers, is silent, forgets, or gives the session away."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.core import lease
from mediaflow.core import tenure as core
from mediaflow.core.tenure import Rules, Tenure

KEEP = Rules(ttl_s=10.0, retention_s=3600.0, stop_when_cut_off=False)
STOP = KEEP._replace(stop_when_cut_off=True)
START_S = 100.0


def begun(**changes: object) -> Tenure:
    return msgspec.structs.replace(core.begin(START_S, 7, KEEP, 0.5), **changes)


def after(tenure: Tenure, *events: core.Event, now_s: float = START_S + 1, rules: Rules = KEEP) -> Tenure:
    for event in events:
        tenure, _ = core.step(tenure, event, now_s, rules)
    return tenure


def test_a_lease_is_renewed_at_a_third_and_distrusted_before_redis_may_give_it_away():
    tenure = begun()
    assert core.agenda(tenure).request == "renew"
    assert core.agenda(tenure).at_s == pytest.approx(START_S + 10 / 3, rel=0.05)
    assert tenure.stop_at_s < START_S + 10 - 1


def test_a_renewal_counts_from_when_it_was_sent_and_not_from_its_answer():
    tenure = after(begun(), core.Confirmed(START_S + 3, 7, 0.5), now_s=START_S + 5)
    assert tenure.confirmed_at_s == START_S + 3
    assert tenure.stop_at_s < START_S + 3 + 10 - 1


def test_a_coroutine_that_returned_has_its_call_completed_before_anything_else():
    assert core.agenda(after(begun(), core.Returned())).request == "complete"


def test_a_coroutine_that_raised_has_its_attempt_failed_with_the_reason():
    tenure = after(begun(), core.Raised("ValueError: no such file"))
    assert core.agenda(tenure).request == "fail"
    assert tenure.reason == "ValueError: no such file"


def test_a_forgotten_session_is_put_back_before_it_is_completed():
    tenure = after(begun(), core.Returned(), core.Forgotten())
    assert core.agenda(tenure).request == "readopt"
    tenure = after(tenure, core.Confirmed(START_S + 1, 9, 0.5))
    assert core.agenda(tenure).request == "complete"
    assert tenure.fence == 9


def test_a_session_forgotten_for_longer_than_tombstones_are_kept_is_not_put_back():
    tenure, effects = core.step(begun(), core.Forgotten(), START_S + 3600, KEEP)
    assert tenure.end == "lost"
    assert effects == ("stop",)


@pytest.mark.parametrize("end", ["lost", "cancelled", "yielded"])
def test_word_that_the_session_is_over_stops_the_coroutine(end: core.EndReason):
    tenure, effects = core.step(begun(), core.Ended(end), START_S + 1, KEEP)
    assert tenure.end == end
    assert effects == ("stop",)


def test_silence_is_asked_again_several_times_before_the_lease_is_over():
    tenure, now_s, tries = begun(), START_S + 3.4, 0
    while now_s < tenure.stop_at_s:
        tenure = after(tenure, core.Silence(), now_s=now_s)
        now_s = core.agenda(tenure).at_s
        tries += 1
    assert tries >= 4


def test_cut_off_from_redis_the_coroutine_goes_on_by_default():
    tenure, effects = core.step(begun(), core.Silence(), begun().stop_at_s + 1, KEEP)
    assert effects == ()
    assert tenure.coroutine == "running"


def test_cut_off_from_redis_the_coroutine_is_stopped_if_the_user_chose_so():
    tenure, effects = core.step(begun(), core.Tick(), begun().stop_at_s, STOP)
    assert effects == ("stop",)
    assert tenure.coroutine == "stopped"
    assert core.agenda(tenure).request == "renew"


def test_a_stopped_coroutine_is_started_again_here_when_the_lease_is_still_ours():
    stopped = after(begun(), core.LeaseOver())
    assert stopped.new_fence, "what the stopped coroutine still has under way must be fenced off"
    tenure, effects = core.step(stopped, core.Confirmed(START_S + 2, 8, 0.5), START_S + 2, KEEP)
    assert effects == ("start",)
    assert tenure.coroutine == "running"


def test_an_answer_that_comes_after_its_own_deadline_starts_nothing():
    stopped = after(begun(), core.LeaseOver())
    tenure, effects = core.step(stopped, core.Confirmed(START_S + 2, 8, 0.5), START_S + 60, KEEP)
    assert effects == ()
    assert core.agenda(tenure).at_s <= START_S + 60


def test_a_drained_session_is_released_once_its_coroutine_is_gone_and_renewed_until_then():
    tenure, effects = core.step(begun(), core.DrainNow(), START_S + 1, KEEP)
    assert effects == ("stop",)
    assert core.agenda(tenure).request == "renew"
    assert core.agenda(after(tenure, core.LeaseOver())).request == "release"
    assert core.agenda(after(tenure, core.Returned())).request == "release"


def test_a_drain_does_not_undo_a_coroutine_that_had_already_returned():
    assert core.agenda(after(begun(), core.Returned(), core.DrainNow())).request == "complete"


def test_another_server_makes_the_next_renewal_ask_for_a_new_fence_at_once():
    tenure = after(begun(), core.ServerChanged())
    assert tenure.new_fence
    assert core.agenda(tenure).at_s <= START_S + 1


def test_backoff_doubles_and_is_bounded():
    assert [core.backoff_s(attempt) for attempt in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert core.backoff_s(1000) == core.LONGEST_BACKOFF_S


seconds = st.floats(START_S, START_S + 100)
events = st.one_of(
    st.builds(core.Confirmed, seconds, st.integers(1, 100), st.floats(0, 1)),
    st.builds(core.Refenced, st.integers(1, 100)),
    st.builds(core.Ended, st.sampled_from(["lost", "cancelled", "yielded", "completed"])),
    st.sampled_from(
        [
            core.Forgotten(),
            core.Silence(),
            core.Returned(),
            core.Raised("x"),
            core.LeaseOver(),
            core.Asked(),
            core.ServerChanged(),
            core.DrainNow(),
            core.Tick(),
        ]
    ),
)


@given(st.lists(st.tuples(events, seconds), max_size=30), st.sampled_from([KEEP, STOP]))
def test_whatever_happens_fences_never_fall_and_an_end_is_final(
    history: list[tuple[core.Event, float]], rules: Rules
):
    tenure = begun()
    for event, now_s in sorted(history, key=lambda item: item[1]):
        before = tenure
        tenure, effects = core.step(before, event, now_s, rules)
        assert tenure.fence >= before.fence
        if before.end is not None:
            assert (tenure, effects) == (before, ())
        if "start" in effects:
            assert isinstance(event, core.Confirmed)
            assert now_s < tenure.stop_at_s
            assert tenure.intent == "hold"
        if tenure.intent != "hold" and before.intent != "hold":
            assert tenure.intent == before.intent, "what is to be done with a session is decided once"


tenures = st.builds(
    Tenure,
    fence=st.integers(1, 100),
    renew_at_s=seconds,
    stop_at_s=seconds,
    confirmed_at_s=seconds,
    retry_at_s=st.one_of(st.just(0.0), seconds),
    intent=st.sampled_from(["hold", "complete", "fail", "release"]),
    coroutine=st.sampled_from(["running", "stopped", "gone"]),
    forgotten=st.booleans(),
    new_fence=st.booleans(),
    draining=st.booleans(),
    reason=st.sampled_from(["", "x"]),
    end=st.sampled_from([None, None, None, "lost"]),
)


@given(tenures, seconds, st.floats(0, 5), st.floats(0, 1), st.integers(0, 100), st.sampled_from([KEEP, STOP]))
def test_the_short_way_of_a_renewal_comes_to_what_the_long_one_comes_to(
    tenure: Tenure, sent_at_s: float, took_s: float, spread: float, older: int, rules: Rules
):
    now_s, known = sent_at_s + took_s, max(1, tenure.fence - older)
    until = lease.deadlines(sent_at_s, rules.ttl_s, spread=spread)
    if core.is_held(tenure) and now_s < until.stop_at_s:
        long = core.step(tenure, core.Confirmed(sent_at_s, known, spread), now_s, rules)
        assert long == (core.renewed(tenure, sent_at_s, until), ())


@given(tenures, seconds, st.sampled_from([KEEP, STOP]))
def test_a_session_that_is_merely_due_needs_no_look_at_the_clock_before_it_is_renewed(
    tenure: Tenure, now_s: float, rules: Rules
):
    if now_s < tenure.stop_at_s:
        assert core.step(tenure, core.Tick(), now_s, rules) == (tenure, ()), (
            "before the stop, time changes nothing"
        )
    if core.is_due(tenure, now_s):
        assert core.step(tenure, core.Tick(), now_s, rules) == (tenure, ())
        agenda = core.agenda(tenure)
        assert (agenda.request, agenda.at_s) == ("renew", max(tenure.renew_at_s, tenure.retry_at_s))
        assert agenda.at_s <= now_s
