"""The demo says that a call was lost if, and only if, it was."""

from mediaflow.supervisor.ledger import Ledger


def accepted(*call_ids: str) -> Ledger:
    ledger = Ledger()
    for call_id in call_ids:
        ledger.accept(call_id)
    return ledger


def test_running_and_waiting_calls_are_counted_apart():
    ledger = accepted("a", "b", "c")
    census = ledger.take_census(
        ledger.live, {"a": "active", "b": "pending", "c": "active", "other": "active"}
    )
    assert census == (2, 1, ())


def test_a_call_that_a_listing_misses_is_suspected_and_lost_only_if_it_is_not_live_itself():
    ledger = accepted("a", "b", "c")
    assert ledger.take_census(ledger.live, {"a": "active"}).missing == ("b", "c")
    assert not ledger.judge("b", "pending")
    assert ledger.judge("c", None)
    assert ledger.lost == {"c"}


def test_a_call_that_ended_though_nobody_ended_it_is_lost():
    ledger = accepted("a")
    assert ledger.take_census(ledger.live, {"a": "failed"}).missing == ("a",)
    assert ledger.judge("a", "failed")


def test_a_call_that_we_ended_is_never_lost():
    ledger = accepted("a", "b")
    before = ledger.live
    ledger.end("a")
    assert ledger.take_census(before, {"b": "active"}) == (1, 0, ())
    assert not ledger.judge("a", None)
    assert (ledger.accepted, ledger.ended, ledger.live) == (2, 1, ("b",))


def test_a_call_that_was_accepted_after_the_count_began_is_not_counted():
    ledger = accepted("a")
    before = ledger.live
    ledger.accept("b")
    assert ledger.take_census(before, {"a": "active"}) == (1, 0, ())
