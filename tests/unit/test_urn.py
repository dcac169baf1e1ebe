"""The urn: draws what a walk along all instances would draw, whatever was put in and taken out before."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.core.urn import Urn

units = st.floats(0, 1, exclude_max=True)
names = st.sampled_from("abcdefghijk")
contents = st.dictionaries(names, st.integers(-3, 50), max_size=11)
changes = st.lists(st.tuples(names, st.integers(-60, 60)), max_size=20)


def walked(balls, unit):
    """What is drawn, found by walking along all names."""
    total = sum(max(0, number) for number in balls.values())
    ball = min(int(unit * total), total - 1)
    for name, number in balls.items():
        if 0 <= ball < max(0, number):
            return name
        ball -= max(0, number)
    return None


@given(contents, changes, st.sets(names), units)
def test_the_same_draw_gives_what_a_walk_along_all_instances_gives(balls, changed, excluded, unit):
    urn, expected = Urn(balls.items()), dict(balls)
    for name, number in changed:
        urn.add(name, number)
        if name in expected:
            expected[name] += number
    assert urn.draw(unit) == walked(expected, unit)
    left = {name: 0 if name in excluded else number for name, number in expected.items()}
    assert urn.draw(unit, excluded) == walked(left, unit)
    assert urn.total == sum(max(0, number) for number in expected.values())
    assert {name: urn.balls(name) for name in expected} == expected


@given(contents, names, st.integers(1, 9), units)
def test_who_was_taken_out_is_never_drawn_again(balls, name, number, unit):
    urn = Urn(balls.items())
    urn.remove(name)
    urn.add(name, number)
    assert name not in urn
    assert urn.draw(unit) == walked({**balls, name: 0}, unit)


def test_chances_are_in_proportion_to_free_slots():
    urn = Urn([("full", 0), ("small", 1), ("over", -2), ("large", 3)])
    drawn = [urn.draw(index / 400) for index in range(400)]
    assert {name: drawn.count(name) for name in set(drawn)} == {"small": 100, "large": 300}


def test_a_draw_next_to_one_still_draws_somebody():
    assert Urn([("a", 2**53), ("b", 3)]).draw(1 - 2**-53) == "b"


@pytest.mark.parametrize("unit", [-0.1, 1.0, float("nan")])
def test_a_draw_outside_its_range_is_refused(unit):
    with pytest.raises(ValueError, match="random_unit"):
        Urn([("a", 1)]).draw(unit)


def lines_run(action):
    """Count the lines of Python that an action runs: what it costs, whatever the machine."""
    count = 0

    def trace(_frame, event, _argument):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def test_a_placement_among_ten_thousand_instances_costs_a_few_steps_more_than_among_ten():
    def place(urn):
        urn.add(urn.draw(0.999, ["1", "3"]), -1)

    small, large = (Urn((str(index), 100) for index in range(size)) for size in (10, 10_000))
    # Five walks through a tree that has ten levels more, a handful of lines a level.
    assert lines_run(lambda: place(large)) <= lines_run(lambda: place(small)) + 5 * 10 * 5
