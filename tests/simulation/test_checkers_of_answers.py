"""The checker of answers (G2), against histories written by hand."""

import pytest
from simulation.written import answered, broken, fault, final, recorded, shown, submitted

from mediaflow.testing.checkers import answers

ASKED = (submitted(10), answered(10.1))


def test_an_answered_call_that_redis_knows_at_the_end_is_not_lost():
    assert not broken(answers, [*ASKED, final(60, shown("completed"))])


def test_an_answered_call_that_redis_does_not_know_is_lost():
    assert broken(answers, [*ASKED, final(60)])
    assert broken(answers, [*ASKED, final(60, shown(session="another"))])


def test_a_call_that_was_refused_is_not_owed():
    assert not broken(answers, [submitted(10), answered(10.1, session="", status=503), final(60)])


@pytest.mark.parametrize("with_records", [False, True])
@pytest.mark.parametrize(
    ("what_befell_it", "is_excused"),
    [
        (fault(11, "emptied"), True),
        (fault(11, "rolled back", detail="2"), True),
        (fault(11, "rolled back", detail="0.5"), False),
        (fault(11, "frozen"), False),
    ],
    ids=["emptied", "rolled back past it", "rolled back, not so far", "frozen"],
)
def test_an_answered_call_may_be_lost_only_with_the_data_that_held_it(
    what_befell_it, is_excused, with_records
):
    record = [recorded(10.05, "pending", "", 0)] if with_records else []
    history = [submitted(10), *record, answered(10.1), what_befell_it, final(60)]
    assert bool(broken(answers, history)) != is_excused


def test_a_session_that_was_put_back_after_a_loss_may_not_be_lost_later():
    history = [
        *ASKED,
        recorded(10.2),
        fault(11, "emptied"),
        recorded(11, "forgotten", "", 0),
        recorded(12, fence=20),
    ]
    assert broken(answers, [*history, final(60)])


def test_a_live_session_is_not_forgotten_by_a_redis_that_lost_nothing():
    assert broken(answers, [recorded(10), recorded(20, "forgotten", "", 0)])
    assert not broken(answers, [recorded(10), fault(20, "emptied"), recorded(20, "forgotten", "", 0)])


def test_an_ended_call_may_be_forgotten_only_when_the_clock_jumps_past_the_retention():
    history = [submitted(10), recorded(10.05), answered(10.1), recorded(20, "completed")]
    assert broken(answers, [*history, fault(21, "clock jumped", detail="5"), final(60)])
    assert not broken(answers, [*history, fault(21, "clock jumped", detail="3600"), final(60)])


def test_one_key_names_one_session():
    again = submitted(20, 2)
    assert not broken(answers, [*ASKED, again, answered(20.1, 2)])
    assert broken(answers, [*ASKED, again, answered(20.1, 2, "s2")])
    assert not broken(answers, [*ASKED, submitted(20, 2, key="other"), answered(20.1, 2, "s2")])


def test_a_key_may_make_a_second_session_where_the_first_was_lost():
    again = (submitted(20, 2), answered(20.1, 2, "s2"))
    assert not broken(answers, [*ASKED, fault(15, "emptied"), *again])
    assert broken(answers, [*ASKED, fault(15, "rolled back", detail="1"), *again])


def test_a_key_comes_back_with_the_session_that_it_made():
    put_back = [fault(15, "emptied"), recorded(15, "forgotten", "", 0), recorded(16, fence=20)]
    again = (submitted(20, 2), recorded(20.05, session="s2", fence=30), answered(20.1, 2, "s2"))
    assert broken(answers, [submitted(10), recorded(10.05), answered(10.1), *put_back, *again])
    found = answered(10.1, created=False)
    assert not broken(answers, [submitted(10), recorded(10.05), found, *put_back, *again])


def test_a_lost_reply_does_not_make_a_second_session_for_one_key():
    lost = (submitted(10), recorded(10.05), recorded(11, "completed"), answered(12, status=0, session=""))
    again = (submitted(13, 2), recorded(13.05, session="s2", fence=20), answered(13.1, 2, "s2"))
    assert broken(answers, [*lost, *again])
    assert not broken(answers, [*lost, submitted(13, 2, "other"), *again[1:]])
    assert not broken(answers, [*lost[:3], fault(11.5, "emptied"), lost[3], *again])


def test_no_session_comes_about_while_another_is_live():
    history = [submitted(10), recorded(10.1), submitted(11, 2, "other")]
    assert broken(answers, [*history, recorded(11.1, session="s2", fence=20)])
    assert not broken(answers, [*history, fault(11, "emptied"), recorded(11.1, session="s2", fence=20)])


def test_a_session_that_was_there_before_and_was_put_back_was_not_made_by_a_repeated_key():
    older = [recorded(5, session="s2"), fault(8, "emptied")]
    once = [submitted(10), recorded(10.05), answered(10.1, created=False)]
    again = [submitted(20, 2), answered(20.1, 2, "s2", 200, created=False)]
    assert not broken(answers, [*older, *once, *again])
    assert broken(answers, [*once, submitted(20, 2), recorded(20.05, session="s2"), answered(20.1, 2, "s2")])
