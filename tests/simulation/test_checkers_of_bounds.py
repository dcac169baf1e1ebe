"""Checkers of takeovers, lost data and storms (G6, G7, G8), against histories written by hand."""

import msgspec
import pytest
from simulation.written import (
    BOTH,
    TERMS,
    broken,
    fault,
    final,
    joined,
    recorded,
    shown,
    started,
    stopped,
    submitted,
)

from mediaflow.testing.checkers import leases, storms, survivors, takeovers
from mediaflow.testing.history import DrainAsked, EndAsked, Healed, Left

# -- G6 takeovers ----------------------------------------------------------------------------------------

KILL = fault(20, "killed", "ann")
PAUSE = fault(20, "paused", "ann")
CUT = fault(20, "cut", "ann", "both")
RUNNING = (*BOTH, started(10))
END = final(60, shown(who="bob"))


@pytest.mark.parametrize("silence", [KILL, PAUSE, CUT, fault(20, "cut", "ann", "requests")])
def test_a_silent_owner_is_replaced_within_a_lease_and_half_a_second(silence):
    assert not broken(takeovers, [*RUNNING, silence, started(23.5, "bob", 20), END])
    assert broken(takeovers, [*RUNNING, silence, started(23.51, "bob", 20), END])
    assert broken(takeovers, [*RUNNING, silence, END])


def test_a_crash_is_noticed_sooner_where_a_watchdog_can_see_it():
    terms = msgspec.structs.replace(TERMS, crash_bound_s=1.0)
    late = [KILL, started(21.1, "bob", 20), END]
    assert broken(takeovers, [*RUNNING, *late], terms)
    assert not broken(takeovers, [*RUNNING, fault(19, "unreachable", "ann"), *late], terms)
    assert not broken(takeovers, [*RUNNING, *late], msgspec.structs.replace(terms, slack_s=0.2))


def test_an_offer_counts_as_takeover_and_an_end_as_well():
    mine = recorded(10)
    offered = recorded(23, who="bob", fence=20, accepted=False, lease_s=1.0)
    assert broken(takeovers, [*BOTH, mine, started(10), KILL, END])
    assert not broken(takeovers, [*BOTH, mine, started(10), KILL, offered, END])
    assert not broken(takeovers, [*BOTH, mine, started(10), KILL, recorded(23, "failed"), END])
    assert broken(takeovers, [*BOTH, mine, started(10), KILL, recorded(21, "pending"), END])


def test_what_another_owned_already_is_not_owed_by_the_silence_of_this_one():
    assert not broken(takeovers, [*BOTH, recorded(9, who="bob", fence=20), started(10), KILL, END])


@pytest.mark.parametrize(
    "other",
    [
        fault(17.5, "frozen"),
        fault(18, "thawed"),
        fault(18, "emptied"),
        fault(18, "clock jumped", detail="-5"),
        fault(18, "killed", "bob"),
        fault(10, "watchdog killed", "watchdog"),
        fault(10, "foul weather"),
        fault(10, "cut", "watchdog", "both"),
        fault(10, "slowed", "watchdog", "both"),
        fault(10, "slowed", "ann", "replies"),
        EndAsked(at_s=18, request=2, call_id="c"),
        DrainAsked(at_s=18, instance_id="bob", process=1),
    ],
    ids=lambda one: getattr(one, "kind", type(one).__name__),
)
def test_anything_else_that_is_wrong_voids_the_claim(other):
    assert not broken(takeovers, [*RUNNING, other, KILL, END])


def test_what_was_wrong_and_is_over_for_a_lease_voids_nothing():
    assert broken(takeovers, [*RUNNING, fault(15, "frozen"), fault(16, "thawed"), KILL, END])
    assert broken(takeovers, [*RUNNING, fault(19, "balancer killed"), KILL, END])


def test_a_silence_that_ends_in_time_is_none():
    assert not broken(takeovers, [*RUNNING, PAUSE, fault(22, "resumed", "ann"), END])
    assert not broken(takeovers, [*RUNNING, fault(20, "cut", "ann", "replies"), END])
    assert not broken(takeovers, [*RUNNING, PAUSE, Healed(at_s=22), END])


def test_no_takeover_is_owed_without_a_spare_slot():
    full = [started(11, "bob", session=name, call=name) for name in ("x", "y")]
    assert not broken(takeovers, [*RUNNING, *full, KILL, END])
    assert broken(takeovers, [*RUNNING, *full[:1], KILL, END])
    assert not broken(takeovers, [*RUNNING, *full[:1], KILL, submitted(21, 3, call="z"), END])
    assert not broken(takeovers, [joined(0.0), started(10), KILL, END])


def test_no_takeover_is_owed_after_the_end_of_the_history():
    assert not broken(takeovers, [*RUNNING, KILL, final(23)])


def test_a_session_that_kills_its_owners_may_be_parked():
    again = [started(10 + n, fence=10 + n) for n in range(TERMS.max_takeovers)]
    assert not broken(takeovers, [*BOTH, *again, KILL, END])


DRAIN = DrainAsked(at_s=20, instance_id="ann", process=1)


def test_a_drained_session_moves_at_once():
    given = [DRAIN, stopped(20.1, reason="drained")]
    assert not broken(takeovers, [*RUNNING, *given, started(20.6, "bob", 20), END])
    assert broken(takeovers, [*RUNNING, *given, started(20.7, "bob", 20), END])
    released = [*given, recorded(20.2, "pending", "")]
    assert not broken(takeovers, [*BOTH, recorded(9), started(10), *released, started(20.7, "bob", 20), END])
    assert broken(takeovers, [*BOTH, recorded(9), started(10), *released, started(20.8, "bob", 20), END])


@pytest.mark.parametrize("reason", ["returned", "raised", "killed"])
def test_a_session_that_ended_while_draining_need_not_move(reason):
    assert not broken(takeovers, [*RUNNING, DRAIN, stopped(20.1, reason=reason), END])


def test_an_attempt_that_failed_while_draining_may_wait_for_its_back_off():
    history = [*RUNNING, DRAIN, stopped(20.1, reason="drained"), started(22, "bob", 20, attempt=2), END]
    assert not broken(takeovers, history)


OWNED = (*BOTH, recorded(10), started(10))


def taken(state="pending", **more):
    """Return the record of a session whose lease would still have run for two seconds when a sweep took it."""
    return recorded(20, state, fence=10, accepted=False, lease_before_s=2.0, script="sweep", **more)


def test_a_sweep_leaves_a_session_whose_lease_still_runs():
    assert broken(leases, [*OWNED, taken()])
    assert broken(leases, [*OWNED, taken("failed")])
    assert not broken(leases, [*OWNED, recorded(20, "pending", script="sweep")])
    assert not broken(leases, [*OWNED, taken("active", lease_s=1.0)])


@pytest.mark.parametrize(
    "end",
    [
        fault(15, "killed", "ann"),
        joined(15, process=2),
        Left(at_s=15, instance_id="ann", process=1, reason="drained"),
    ],
    ids=["killed", "superseded", "drained"],
)
def test_a_sweep_may_take_what_a_process_owned_that_is_gone(end):
    assert not broken(leases, [*OWNED, end, taken()])
    again = [joined(16, process=3), recorded(17, incarnation=3), started(17, incarnation=3)]
    assert broken(leases, [*OWNED, end, *again, taken(incarnation=3)])


def test_an_offer_to_a_process_that_nobody_knows_proves_nothing():
    offered = recorded(10, accepted=False, lease_s=1.0)
    assert not broken(leases, [*BOTH, offered, taken()])


def test_what_was_given_up_does_not_come_back_by_a_late_renewal():
    given_up = recorded(20, "pending", script="relinquish")
    revived = recorded(21, fence=10, script="renew")
    assert broken(leases, [*OWNED, given_up, revived])
    offered = recorded(20.5, who="bob", fence=20, accepted=False, lease_s=1.0, script="assign")
    renewed = recorded(21, who="bob", fence=20, script="renew")
    assert not broken(leases, [*OWNED, given_up, offered, renewed])
    assert not broken(leases, [*OWNED, given_up, fault(20.5, "emptied"), revived])
    again = recorded(20.5, "pending", script="renew")
    assert broken(leases, [*OWNED, given_up, again, revived])


def test_no_lease_is_longer_than_promised():
    assert not broken(leases, [recorded(10), recorded(11, accepted=False, lease_s=1.0)])
    assert broken(leases, [recorded(10, lease_s=3.1)])
    assert broken(leases, [recorded(11, accepted=False, lease_s=3.0)])


# -- G7 survivors ----------------------------------------------------------------------------------------

LOSSES = [fault(20, "emptied"), fault(20, "rolled back", detail="2")]


@pytest.mark.parametrize("loss", LOSSES, ids=["emptied", "rolled back"])
def test_what_ran_when_redis_lost_data_is_put_back(loss):
    assert not broken(survivors, [*RUNNING, loss, final(60, shown())])
    assert not broken(survivors, [*RUNNING, loss, final(60, shown(session="sibling"))])
    assert broken(survivors, [*RUNNING, loss, final(60)])
    assert broken(survivors, [*RUNNING, loss, final(60, shown("yielded", session="sibling"))])


@pytest.mark.parametrize(
    "why",
    [
        stopped(19, reason="returned"),
        fault(19, "killed", "ann"),
        fault(19, "paused", "ann"),
        fault(19, "cut", "ann", "replies"),
        fault(22.9, "killed", "ann"),
        fault(22, "frozen"),
        EndAsked(at_s=15, request=2, call_id="c"),
    ],
    ids=[
        "not running",
        "killed",
        "paused",
        "cut off",
        "killed soon after",
        "frozen soon after",
        "asked to end",
    ],
)
def test_what_nobody_living_holds_may_be_lost(why):
    history = sorted([*RUNNING, fault(20, "emptied"), why], key=lambda one: one.at_s)
    assert not broken(survivors, [*history, final(60)])


@pytest.mark.parametrize(
    "no_excuse",
    [
        [fault(12, "paused", "ann"), fault(13, "resumed", "ann"), fault(20, "emptied")],
        [fault(20, "emptied"), fault(23.1, "killed", "ann")],
        [fault(18, "stopped"), fault(20, "emptied")],
        [fault(20, "emptied"), fault(22, "killed", "bob")],
    ],
    ids=["well again", "killed later", "restarted empty", "another was killed"],
)
def test_an_owner_that_had_its_time_is_not_excused(no_excuse):
    assert broken(survivors, [*RUNNING, *no_excuse, final(60)])


def test_a_later_loss_that_found_nobody_running_it_excuses():
    later = [fault(30, "killed", "ann"), fault(31, "emptied")]
    assert not broken(survivors, [*RUNNING, fault(20, "emptied"), *later, final(60)])
    assert broken(survivors, [*RUNNING, fault(20, "emptied"), fault(31, "emptied"), final(60)])


@pytest.mark.parametrize(
    "over",
    [
        [recorded(22, "completed", "bob", 20, session="t")],
        [recorded(22, "yielded")],
        [recorded(22, "cancelled")],
        [recorded(22, who="bob", fence=20)],
        [recorded(22, "yielded"), recorded(24, script="rolled back")],
    ],
    ids=["a younger one completed", "yielded", "cancelled", "another's", "and rolled back"],
)
def test_who_was_told_that_it_is_over_and_takes_his_time_to_stop_puts_nothing_back(over):
    losses = fault(20, "emptied"), fault(25, "emptied")
    history = [*RUNNING, losses[0], *over, losses[1]]
    told = stopped(30, reason="yielded" if over[0].state == "yielded" else "lost")
    assert not broken(survivors, [*history, told, final(60)])
    assert broken(survivors, [*history, final(60)])
    assert broken(survivors, [*history, stopped(30, reason="drained"), final(60)])
    assert broken(survivors, [*RUNNING, *losses, told, final(60)])
    again = recorded(24, script="readopt"), recorded(27, script="readopt")
    assert broken(survivors, [*RUNNING, losses[0], *over, again[0], losses[1], told, final(60)])
    assert broken(survivors, [*history, again[1], told, final(60)])
    offered = recorded(27, accepted=False, script="assign")
    assert not broken(survivors, [*history, offered, told, final(60)])


@pytest.mark.parametrize(
    "no_reason",
    [
        [],
        [recorded(22, "completed", "bob", 20, session="r")],
        [recorded(22, "yielded", "bob", 20, session="t")],
        [recorded(22, "failed", "bob", 20, session="t")],
        [recorded(22, "completed", "bob", 20, session="t", call="other")],
        [recorded(22, "pending")],
        [recorded(22, fence=20, script="readopt")],
    ],
    ids=["none", "older", "yielded to it", "failed", "of another call", "swept", "put back"],
)
def test_who_is_told_that_it_is_over_without_a_reason_is_not_excused(no_reason):
    history = [*RUNNING, fault(20, "emptied"), *no_reason, fault(25, "emptied"), stopped(30), final(60)]
    assert broken(survivors, history)


def test_what_ended_only_after_a_loss_was_to_be_put_back_at_it():
    later = fault(20, "emptied"), recorded(22, "completed", "bob", 20, session="t"), stopped(30)
    assert broken(survivors, [*RUNNING, *later, final(60)])


# -- G8 storms -------------------------------------------------------------------------------------------

FREEZE = (fault(20, "frozen"), fault(30, "thawed"))


@pytest.mark.parametrize(
    "trouble",
    [FREEZE, [fault(30, "emptied")], [fault(30, "clock jumped", detail="3600")], [fault(28, "stopped")]],
    ids=["frozen", "emptied", "jumped", "stopped"],
)
def test_no_session_of_a_healthy_owner_moves_when_redis_was_in_trouble(trouble):
    assert not broken(storms, [*RUNNING, *trouble, started(31, resumed=None)])
    assert broken(storms, [*RUNNING, *trouble, started(31, "bob", 20)])
    assert broken(storms, [*RUNNING, *trouble, stopped(30.5, reason="lease lost"), started(31, "bob", 20)])


def test_a_takeover_long_after_the_trouble_is_another_matter():
    assert broken(storms, [*RUNNING, *FREEZE, started(33.5, "bob", 20)])
    assert not broken(storms, [*RUNNING, *FREEZE, started(33.6, "bob", 20)])


@pytest.mark.parametrize(
    "why",
    [
        fault(25, "killed", "ann"),
        fault(19, "paused", "ann"),
        fault(30.5, "cut", "ann", "both"),
        DrainAsked(at_s=30.5, instance_id="ann", process=1),
        fault(30.5, "rolled back", detail="1"),
        stopped(15, reason="raised"),
    ],
    ids=["killed", "paused", "cut off", "drained", "rolled back", "had stopped before"],
)
def test_a_takeover_that_has_another_reason_is_no_storm(why):
    history = sorted([*RUNNING, *FREEZE, why], key=lambda one: one.at_s)
    assert not broken(storms, [*history, started(31, "bob", 20)])


def test_a_new_attempt_may_be_made_elsewhere():
    history = [*RUNNING, *FREEZE, stopped(30.2, reason="raised"), started(31, "bob", 20, attempt=2)]
    assert not broken(storms, history)


def test_a_former_owner_may_come_back_first_where_redis_knows_of_none():
    history = [*BOTH, started(5, "bob", 5), started(10)]
    assert not broken(storms, [*history, fault(30, "emptied"), started(31, "bob", 20)])
    assert broken(storms, [*history, *FREEZE, started(31, "bob", 20)])


def test_so_many_jumps_that_they_outlast_a_lease_excuse():
    jumps = [fault(30 + n / 10, "clock jumped", detail="5") for n in range(3)]
    assert broken(storms, [*RUNNING, *jumps[:1], started(31, "bob", 20)])
    assert not broken(storms, [*RUNNING, *jumps, started(31, "bob", 20)])
    long = msgspec.structs.replace(TERMS, lease_ttl_s=10.0)
    assert broken(storms, [*RUNNING, *jumps, started(31, "bob", 20)], long)


def test_a_former_owner_may_come_back_first_also_where_redis_was_stopped_before_it_was_emptied():
    history = [*BOTH, started(5, "bob", 5), started(10), fault(29, "stopped")]
    assert not broken(storms, [*history, fault(30, "emptied"), started(31, "bob", 20)])
    assert broken(storms, [*history, started(31, "bob", 20)])


def test_a_former_owner_may_come_back_first_also_where_redis_was_emptied_just_before_it_was_stopped():
    owned = [recorded(5, who="bob", fence=5), started(5, "bob", 5), recorded(10), started(10)]
    emptied = [fault(29, "emptied"), recorded(29, "forgotten", "", 0)]
    stopped_ = [fault(29.1, "stopped"), fault(30.9, "restarted")]
    back = [recorded(31, who="bob", fence=20), started(31, "bob", 20)]
    assert not broken(storms, [*BOTH, *owned, *emptied, *stopped_, *back])
    assert broken(storms, [*BOTH, *owned, *stopped_, *back])


def test_what_the_newest_owner_has_put_back_is_not_taken_from_it_by_a_former_one():
    owned = [recorded(5, who="bob", fence=5), started(5, "bob", 5), recorded(10), started(10)]
    emptied = [fault(29, "emptied"), recorded(29, "forgotten", "", 0), recorded(29.05, fence=15)]
    stopped_ = [fault(29.1, "stopped"), fault(30.9, "restarted")]
    taken = [recorded(31, who="bob", fence=20), started(31, "bob", 20)]
    assert broken(storms, [*BOTH, *owned, *emptied, *stopped_, *taken])
    assert broken(storms, [*BOTH, *owned, *emptied, *taken])


def test_a_stranger_puts_nothing_back_that_redis_lost():
    emptied = [recorded(10), started(10), fault(29, "emptied"), recorded(29, "forgotten", "", 0)]
    taken = [fault(29.1, "stopped"), fault(30.9, "restarted"), recorded(31, who="bob", fence=20)]
    assert broken(storms, [*BOTH, *emptied, *taken, started(31, "bob", 20)])


def test_in_foul_weather_an_owner_may_have_no_time_to_renew():
    jump = fault(30, "clock jumped", detail="5")
    assert not broken(storms, [*RUNNING, fault(20, "foul weather"), jump, started(31, "bob", 20)])
    weather = [fault(20, "foul weather"), fault(25, "fair weather")]
    assert broken(storms, [*RUNNING, *weather, jump, started(31, "bob", 20)])
