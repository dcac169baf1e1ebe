"""Seniority: of any siblings exactly one survives, and every instance names the same one."""

from hypothesis import given
from hypothesis import strategies as st

from mediaflow.core import names
from mediaflow.core.seniority import Standing, precedes, senior

ranks = st.builds(names.rank, st.integers(0, 3), st.text("ab~:@Z", min_size=1, max_size=3))
session_ids = st.builds(names.session_id, st.integers(0, 3), st.just(7), st.integers(0, 3))
standings = st.builds(Standing, ranks, session_ids)


@given(standings, standings)
def test_of_two_siblings_exactly_one_is_senior(one: Standing, other: Standing) -> None:
    assert precedes(one, other) + precedes(other, one) == (one != other)


@given(standings, standings, standings)
def test_seniority_has_no_circles(one: Standing, two: Standing, three: Standing) -> None:
    if precedes(one, two) and precedes(two, three):
        assert precedes(one, three)


@given(st.lists(standings, min_size=1), st.randoms())
def test_everyone_names_the_same_senior_in_whatever_order_they_look(
    found: list[Standing], random: object
) -> None:
    chosen = senior(found)
    assert chosen in found
    assert not any(precedes(other, chosen) for other in found if chosen is not None)
    random.shuffle(found)  # type: ignore[attr-defined]
    assert senior(found) == chosen


def test_without_siblings_there_is_no_senior() -> None:
    assert senior([]) is None


def test_the_instance_that_started_first_is_senior() -> None:
    early, late = names.rank(999, "z"), names.rank(1000, "a")
    assert precedes(Standing(early, "session-9"), Standing(late, "session-1"))


def test_of_one_instance_the_older_session_is_senior() -> None:
    mine = names.rank(5, "a")
    assert precedes(Standing(mine, names.session_id(1, 0, 9)), Standing(mine, names.session_id(2, 0, 1)))
