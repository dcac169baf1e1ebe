"""What people read about takeovers is true, and one line each."""

import itertools

from mediaflow.store import Event
from mediaflow.supervisor.chronicle import Chronicle

_numbers = itertools.count(1)


def event(name: str, session: str, instance: str, at_ms: int, reason: str = "") -> Event:
    return Event(
        event_id=f"{at_ms}-{next(_numbers)}-0",
        at_ms=at_ms,
        event=name,
        call_id=f"call-{session}",
        session_id=session,
        instance_id=instance,
        fence=1,
        reason=reason,
    )


def with_calls(*owners: str) -> Chronicle:
    chronicle = Chronicle(frozenset({"worker-1", "worker-2", "worker-3"}))
    for number, owner in enumerate(owners):
        chronicle.observe(event("session.created", f"s{number}", owner, 1_000))
        chronicle.observe(event("session.activated", f"s{number}", owner, 1_000, "created"))
    return chronicle


def test_a_death_and_its_takeovers_are_one_line_with_the_time_they_took():
    chronicle = with_calls("worker-2", "worker-2", "worker-1")
    chronicle.died("worker-2", 5_000, "SIGKILL")
    for session in ("s0", "s1"):
        chronicle.observe(event("session.pending", session, "worker-2", 5_100, "crashed"))
    assert chronicle.due(5_150) == []
    chronicle.observe(event("session.takeover", "s0", "worker-3", 5_180))
    assert chronicle.due(6_000) == []
    chronicle.observe(event("session.takeover", "s1", "worker-1", 5_210))
    assert chronicle.due(6_100) == ["worker-2 died (SIGKILL); 2 calls moved to worker-1, worker-3 in 0.21 s"]
    assert chronicle.due(9_000) == []


def test_a_takeover_is_measured_from_the_death_of_its_owner():
    chronicle = with_calls("worker-2")
    chronicle.died("worker-2", 5_000, "SIGKILL")
    chronicle.observe(event("session.pending", "s0", "worker-2", 5_400))
    chronicle.observe(event("session.takeover", "s0", "worker-1", 5_450))
    assert list(chronicle.takeovers_ms) == [450]


def test_a_takeover_from_a_silent_owner_is_measured_from_the_moment_its_session_was_orphaned():
    chronicle = with_calls("worker-2")
    chronicle.observe(event("session.pending", "s0", "worker-2", 5_400, "lease over"))
    chronicle.observe(event("session.takeover", "s0", "worker-1", 5_450))
    assert list(chronicle.takeovers_ms) == [50]
    assert chronicle.due(6_000) == ["worker-2 lost calls (lease over); 1 call moved to worker-1 in 0.05 s"]


def test_an_earlier_death_is_not_blamed_for_a_session_that_came_after_it():
    chronicle = with_calls()
    chronicle.died("worker-2", 2_000, "SIGKILL")
    chronicle.due(60_000)
    chronicle.observe(event("session.activated", "s9", "worker-2", 30_000))
    chronicle.observe(event("session.pending", "s9", "worker-2", 50_000))
    chronicle.observe(event("session.takeover", "s9", "worker-1", 50_020))
    assert list(chronicle.takeovers_ms) == [20]


def test_a_next_owner_that_dies_before_it_accepts_does_not_restart_the_clock():
    chronicle = with_calls("worker-2")
    chronicle.died("worker-2", 5_000, "SIGKILL")
    chronicle.observe(event("session.pending", "s0", "worker-2", 5_100))
    chronicle.observe(event("session.pending", "s0", "worker-3", 7_100, "not accepted"))
    chronicle.observe(event("session.takeover", "s0", "worker-1", 7_150))
    assert list(chronicle.takeovers_ms) == [2_150]


def test_a_death_without_calls_says_so():
    chronicle = with_calls()
    chronicle.died("worker-2", 5_000, "SIGKILL")
    assert chronicle.due(5_500) == []
    assert chronicle.due(6_600) == ["worker-2 died (SIGKILL); it held no calls"]


def test_calls_that_find_no_owner_are_not_kept_quiet():
    chronicle = with_calls("worker-2")
    chronicle.died("worker-2", 5_000, "SIGKILL")
    chronicle.observe(event("session.pending", "s0", "worker-2", 5_100))
    assert chronicle.due(8_000) == []
    assert chronicle.due(9_200) == ["worker-2 died (SIGKILL); 1 call still waiting for an owner"]


def test_a_drain_is_told_with_its_handoffs():
    chronicle = with_calls("worker-2")
    chronicle.observe(event("instance.draining", "", "worker-2", 5_000))
    chronicle.observe(event("session.pending", "s0", "worker-2", 5_010, "draining"))
    chronicle.observe(event("session.handoff", "s0", "worker-1", 5_040))
    assert chronicle.due(6_000) == ["worker-2 drains; 1 call moved to worker-1 in 0.04 s"]
    assert list(chronicle.takeovers_ms) == []


def test_a_call_that_is_ended_while_it_waits_is_not_waited_for():
    chronicle = with_calls("worker-2")
    chronicle.died("worker-2", 5_000, "SIGKILL")
    chronicle.observe(event("session.pending", "s0", "worker-2", 5_100))
    chronicle.observe(event("session.cancelled", "s0", "worker-2", 5_200))
    assert chronicle.due(7_000) == ["worker-2 died (SIGKILL); 1 call ended meanwhile"]


def test_a_stranger_that_joins_is_told_and_our_own_are_not():
    chronicle = with_calls()
    chronicle.observe(event("instance.joined", "", "worker-1", 5_000))
    chronicle.observe(event("instance.joined", "", "bot-7", 5_000))
    chronicle.observe(event("instance.left", "", "bot-7", 6_000, "drained"))
    assert chronicle.due(6_000) == ["bot-7 joined", "bot-7 left (drained)"]
