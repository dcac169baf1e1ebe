"""Placement: nobody above its room, fair by free slots, nothing counted twice or for ever."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.core.placement import Candidate, Flight, discount, place, settle

units = st.floats(0, 1, exclude_max=True)
candidates = st.lists(
    st.builds(Candidate, st.sampled_from("abcdefgh"), st.integers(-3, 50)),
    unique_by=lambda candidate: candidate.instance_id,
    max_size=8,
)


def even_draws(count):
    return itertools.cycle([index / count for index in range(count)])


@given(st.integers(0, 120), candidates, st.lists(units, min_size=1, max_size=20))
def test_nobody_is_given_more_than_its_room_and_the_oldest_go_first(count, found, draws):
    placed = place(range(count), found, itertools.cycle(draws))
    room = {candidate.instance_id: max(0, candidate.free) for candidate in found}
    assert [item for item, _ in placed] == list(range(min(count, sum(room.values()))))
    for name, free in room.items():
        assert sum(1 for _, chosen in placed if chosen == name) <= free


def test_a_burst_is_spread_over_equal_instances():
    found = [Candidate(name, 100) for name in "abc"]
    placed = [chosen for _, chosen in place(range(90), found, even_draws(30))]
    assert min(placed.count(name) for name in "abc") >= 25


def test_what_is_on_its_way_is_taken_off():
    found = [Candidate("a", 5), Candidate("b", 2), Candidate("c", 1)]
    flights = (Flight("a", 2, 0.0), Flight("a", 1, 1.0), Flight("b", 9, 0.0))
    assert discount(found, flights) == [Candidate("a", 2), Candidate("b", 0), Candidate("c", 1)]


@pytest.mark.parametrize(
    ("beat_at_s", "now_s", "kept"),
    [
        (9.0, 10.5, True),  # the last heartbeat is older than the assignment
        (10.0, 10.5, True),
        (10.01, 10.5, False),  # shown
        (9.0, 12.0, False),  # not accepted in time: the session is pending again
        (None, 10.5, False),  # the instance is gone
    ],
)
def test_a_flight_lasts_until_a_later_heartbeat_or_until_it_lapses(beat_at_s, now_s, kept):
    flights = (Flight("a", 3, 10.0),)
    beats = {} if beat_at_s is None else {"a": beat_at_s}
    assert settle(flights, beats, now_s, accept_ttl_s=2.0) == (flights if kept else ())


@given(st.integers(1, 40), st.integers(1, 30), st.lists(st.integers(0, 9), max_size=30), units)
def test_with_stale_figures_an_instance_is_asked_for_no_more_than_it_once_had(free, rounds, sizes, unit):
    """Everything is refused and no heartbeat comes: the count of what was sent holds us back."""
    flights: tuple[Flight, ...] = ()
    sent = 0
    for index, size in enumerate(sizes[:rounds]):
        now_s = index / 100
        flights = settle(flights, {"a": -1.0}, now_s, accept_ttl_s=2.0)
        placed = place(range(size), discount([Candidate("a", free)], flights), itertools.repeat(unit))
        if placed:
            flights = (*flights, Flight("a", len(placed), now_s))
        sent += len(placed)
    assert sent <= free
