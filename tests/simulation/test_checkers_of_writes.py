"""The checkers of fences (G3) and effects, against histories written by hand."""

import pytest
from simulation.written import TERMS, broken, effect, fault, recorded, started, stopped, wrote

from mediaflow.testing.checkers import effects, fences

# -- G3 fences -------------------------------------------------------------------------------------------


def test_writes_under_fences_that_rise_are_accepted():
    assert not broken(fences, [wrote(10), wrote(11, number=2), wrote(12, "bob", 20, 3)])


@pytest.mark.parametrize("session", ["s", "s2"])
def test_the_fences_of_a_call_never_fall(session):
    assert broken(fences, [wrote(10, "bob", 20), wrote(11, "ann", 10, 2, session=session)])
    assert not broken(fences, [wrote(10, "bob", 20), wrote(11, "ann", 10, 2, call="d", session="s3")])


def test_fences_of_siblings_interleave_after_a_loss():
    loss = fault(9, "emptied")
    assert not broken(fences, [loss, wrote(10, "bob", 20), wrote(11, "ann", 10, session="s2")])
    assert broken(fences, [loss, wrote(10, "bob", 20), wrote(11, "ann", 10, 2)])


@pytest.mark.parametrize(
    ("faults", "is_excused"),
    [
        ([fault(11, "emptied"), fault(11, "clock jumped", detail="-5")], True),
        ([fault(11, "clock jumped", detail="-5"), fault(11, "rolled back", detail="0.5")], True),
        ([fault(11, "clock jumped", detail="-5")], False),
        ([fault(11, "clock jumped", detail="5"), fault(11, "emptied")], False),
        ([fault(11, "rolled back", detail="0.5")], False),
    ],
    ids=["lost, then back", "back, then lost", "back alone", "lost and forward", "lost alone"],
)
def test_fences_may_fall_only_if_data_was_lost_and_the_clock_went_back(faults, is_excused):
    assert bool(broken(fences, [wrote(10, fence=20), *faults, wrote(12, fence=15, number=2)])) != is_excused
    grants = [recorded(10, fence=20), *faults, recorded(12, fence=15)]
    assert bool(broken(fences, grants)) != is_excused


def test_a_write_of_the_owner_of_then_may_arrive_after_a_rollback_to_then():
    history = [wrote(10, fence=10), wrote(12, "bob", 20, 2)]
    assert not broken(fences, [*history, fault(12.5, "rolled back", detail="1"), wrote(12.6, number=2)])
    assert broken(fences, [*history, fault(12.5, "rolled back", detail="0.1"), wrote(12.6, number=3)])


@pytest.mark.parametrize(
    "record",
    [
        recorded(10, who="bob", fence=20),
        recorded(10, fence=11),
        recorded(10, "pending", "", 10),
        recorded(10, "completed"),
    ],
    ids=["another's", "a newer fence", "nobody's", "ended"],
)
def test_a_write_that_the_record_does_not_bear_out_is_rejected(record):
    assert broken(fences, [record, wrote(11)])


def test_the_last_owner_of_a_swept_session_may_write():
    assert not broken(fences, [recorded(10), recorded(11, "pending", "ann", 10), wrote(12)])


def test_a_record_that_was_lost_bears_no_witness():
    history = [
        recorded(10),
        recorded(12, who="bob", fence=20),
        fault(13, "rolled back", detail="2"),
        wrote(13.1),
    ]
    assert not broken(fences, history)


def test_numbers_of_writes_never_go_back():
    assert broken(fences, [wrote(10, number=5), wrote(11, number=4)])
    assert not broken(fences, [wrote(10, number=5), wrote(11, number=5), wrote(12, number=4, kind="details")])
    assert not broken(fences, [wrote(10, number=5), fault(10.5, "emptied"), wrote(11, number=4)])
    assert broken(fences, [wrote(10, number=5), fault(12, "rolled back", detail="1"), wrote(13, number=4)])


def test_each_grant_is_above_all_that_the_call_had():
    assert not broken(
        fences, [recorded(10), recorded(11, "pending", "", 10), recorded(12, who="bob", fence=11)]
    )
    assert broken(fences, [recorded(10), recorded(12, who="bob", fence=9)])
    assert broken(fences, [recorded(10), recorded(12, session="s2", who="bob", fence=10)])


def test_a_fence_that_a_rollback_took_back_is_not_granted_again():
    history = [recorded(10), recorded(12, who="bob", fence=20), fault(13, "rolled back", detail="2")]
    assert not broken(fences, [*history, recorded(13), recorded(14, who="cid", fence=21)])
    assert broken(fences, [*history, recorded(13), recorded(14, who="cid", fence=11)])


def test_a_handler_starts_above_all_other_owners():
    assert not broken(fences, [started(10), started(11), started(12, "bob", 11)])
    assert broken(fences, [started(10), started(12, "bob", 10)])
    assert broken(fences, [started(10, fence=12), started(12, "bob", 10)])


def test_an_acceptance_under_way_may_start_after_a_rollback():
    history = [started(12, "bob", 20), fault(13, "rolled back", detail="2"), started(13.1, "ann", 10)]
    assert not broken(fences, history)


def test_a_superseded_process_may_start_what_it_was_granted():
    history = [
        started(10, "ann", 12, session="x", incarnation=2),
        started(11, "bob", 20),
        started(12, "ann", 10),
    ]
    assert not broken(fences, history)
    assert broken(fences, history[1:])


def test_while_redis_is_two_each_may_answer_but_for_what_both_had():
    history = [
        wrote(10, number=2),
        wrote(11.5, number=3),
        fault(12, "split", detail="1"),
        wrote(12.5, number=5),
    ]
    older = [started(13, "bob", 20, resumed=2), wrote(13.1, "bob", 20, 3), wrote(13.2, number=6)]
    assert not broken(fences, [*history, *older])
    assert broken(fences, [*history, started(13, "bob", 20, resumed=1)])
    assert broken(fences, [wrote(10, fence=15), *history, *older])
    one_again = [*history, *older, fault(14, "rolled back", detail="2.5")]
    assert broken(fences, [*one_again, started(15, "cid", 30, resumed=1)])
    assert broken(fences, [*one_again, wrote(15, number=7), started(16, "cid", 30, resumed=6)])


def test_who_took_over_while_redis_was_two_supersedes_what_the_older_owner_wrote_until_it_came_back():
    apart = [wrote(10, number=2), fault(12, "split", detail="1"), started(13, "bob", 20, resumed=2)]
    one_again = [
        *apart,
        wrote(13.1, "bob", 20, 3),
        fault(14, "rolled back", detail="2.5"),
        wrote(14.1, number=6),
    ]
    back = [*one_again, wrote(14.2, "bob", 30, 4)]
    assert not broken(fences, [*back, wrote(14.3, "bob", 30, 5)])
    assert broken(fences, [*back, wrote(14.3, number=7)])
    assert broken(fences, [*back, wrote(14.3, "bob", 30, 3)])
    assert broken(fences, [*one_again, wrote(14.2, "bob", 30, 1)])
    assert broken(fences, [*one_again, started(14.2, "cid", 30, resumed=4)])
    assert broken(fences, [*one_again, wrote(14.2, "cid", 30, 4)])


@pytest.mark.parametrize("resumed", [None, 4])
def test_a_successor_that_lacks_a_saved_checkpoint_is_rejected(resumed):
    saved = wrote(10, number=5)
    assert not broken(fences, [saved, started(12, "bob", 20, resumed=5)])
    assert broken(fences, [saved, started(12, "bob", 20, resumed=resumed)])


def test_a_write_under_way_may_come_after_what_a_restart_here_read():
    history = [wrote(10, number=5), stopped(11), wrote(11.1, number=6)]
    assert not broken(fences, [*history, started(11.2, resumed=5)])
    assert broken(fences, [*history, started(11.2, resumed=4)])
    assert broken(fences, [*history, started(11.2, "bob", 20, resumed=5)])


def test_a_checkpoint_may_be_lost_with_the_data_but_not_by_who_puts_it_back():
    history = [recorded(9), wrote(10, number=5), wrote(11, number=6), fault(12, "emptied")]
    history += [recorded(12, "forgotten", "", 0)]
    put_back = recorded(13, fence=20)
    assert not broken(fences, [*history, started(20, "bob", 30, resumed=None)])
    assert not broken(fences, [*history, put_back, started(20, "bob", 30, resumed=5)])
    assert broken(fences, [*history, put_back, started(20, "bob", 30, resumed=4)])


def test_a_rollback_to_before_redis_was_emptied_puts_nothing_back():
    history = [
        recorded(5),
        wrote(9, number=5),
        wrote(10, number=6),
        wrote(11, number=7),
        fault(12, "emptied"),
    ]
    history += [recorded(12, "forgotten", "", 0), recorded(13, fence=20)]
    history += [fault(14, "rolled back", detail="4.5"), recorded(14), recorded(14.1, fence=30)]
    assert not broken(fences, [*history, started(20, "bob", 40, resumed=5)])


# -- effects ---------------------------------------------------------------------------------------------

NEWER_OWNER = (recorded(5), recorded(10, who="bob", fence=20))


def test_an_effect_of_the_only_owner_is_accepted():
    assert not broken(effects, [recorded(5), effect(9), *NEWER_OWNER[1:], effect(10.1, "bob", 20)])


@pytest.mark.parametrize(
    "newer", [NEWER_OWNER, (started(5), started(10, "bob", 20))], ids=["recorded", "started"]
)
def test_a_checked_effect_after_another_took_over_is_rejected(newer):
    assert broken(effects, [*newer, effect(10.1)])


def test_an_unchecked_effect_is_the_handlers_own_mistake_and_can_be_found():
    history = [*NEWER_OWNER, effect(10.1, checked=False)]
    assert not broken(effects, history)
    assert [one.at_s for one, _ in effects.overlapping(history, TERMS)] == [10.1]


def test_a_renewed_fence_of_the_same_owner_is_no_other_owner():
    assert not broken(effects, [recorded(5), recorded(10, fence=20), effect(10.1)])


@pytest.mark.parametrize("kind", ["emptied", "rolled back"])
def test_an_effect_is_excused_for_a_lease_after_a_loss(kind):
    lost = fault(9, kind, detail="1")
    assert not broken(effects, [recorded(5), lost, *NEWER_OWNER[1:], effect(11.9)])
    assert broken(effects, [recorded(5), lost, *NEWER_OWNER[1:], effect(12.1)])


BACK = fault(11.5, "clock jumped", detail="-3600")
OLDER_PUT_BACK = recorded(14.3, fence=15, script="readopt")


def came_back(script="renew"):
    return recorded(14.4, who="bob", fence=21, script=script)


def test_an_effect_is_excused_when_a_newer_owner_comes_back_after_fences_were_put_out_of_order():
    # Seed 3358: the older owner was the first to put the session back, by a clock that had gone back; the newer one,
    # cut off until then, still held a fence of the time before.
    lost = [fault(11, "emptied"), BACK]
    history = [*NEWER_OWNER, *lost, OLDER_PUT_BACK, came_back()]
    assert not broken(effects, [*history, effect(15.3, fence=15)])
    assert not broken(
        effects, [*NEWER_OWNER, BACK, fault(12, "emptied"), *history[-2:], effect(15.3, fence=15)]
    )
    assert broken(effects, [*history, effect(17.5, fence=15)]), "its own lease is over"


@pytest.mark.parametrize(
    "history",
    [
        [*NEWER_OWNER, fault(11, "emptied"), OLDER_PUT_BACK, came_back()],
        [*NEWER_OWNER, BACK, OLDER_PUT_BACK, came_back()],
        [*NEWER_OWNER, fault(11, "emptied"), BACK, OLDER_PUT_BACK, came_back("assign")],
        [recorded(5), fault(11, "emptied"), BACK, OLDER_PUT_BACK, came_back()],
        [
            recorded(5),
            recorded(10, who="bob", fence=12),
            fault(11, "emptied"),
            BACK,
            OLDER_PUT_BACK,
            came_back(),
        ],
        [recorded(5), fault(8, "emptied"), recorded(11.4, who="bob", fence=20, script="renew"), BACK],
    ],
    ids=[
        "lost alone",
        "back alone",
        "given to it since",
        "it never had it",
        "its fence was lower",
        "it came before",
    ],
)
def test_an_effect_is_not_excused_when_fences_are_in_order_or_the_owner_is_a_new_one(history):
    at_s = 15.3 if history[-1] is not BACK else 12.5
    assert broken(effects, [*history, effect(at_s, fence=15)])


def test_a_second_jump_within_a_lease_excuses_an_effect_and_one_does_not():
    jumps = [fault(8, "clock jumped", detail="5"), fault(9, "clock jumped", detail="5")]
    assert broken(effects, [recorded(5), *jumps[1:], *NEWER_OWNER[1:], effect(10.5)])
    assert not broken(effects, [recorded(5), *jumps, *NEWER_OWNER[1:], effect(10.5)])
    assert broken(effects, [recorded(5), *jumps, *NEWER_OWNER[1:], effect(12.5)])


def test_an_effect_of_a_superseded_process_is_excused():
    assert not broken(
        effects, [recorded(5), started(6, session="x", incarnation=2), *NEWER_OWNER[1:], effect(10.1)]
    )
