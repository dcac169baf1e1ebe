"""The ratios that the bench tells: from pairs, in whoever's favour they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.bench.figures import Pair, advantage, advantages, percentiles_ms, quantile, spread

some = st.lists(st.floats(min_value=0, max_value=1e9), min_size=1)
above_nothing = st.floats(min_value=1e-6, max_value=1e6)


def test_quantiles_lie_between_neighbours_where_no_value_is():
    assert quantile([4, 1, 3, 2], 0) == 1
    assert quantile([4, 1, 3, 2], 0.5) == 2.5
    assert quantile([4, 1, 3, 2], 1) == 4
    assert quantile([7], 0.99) == 7


@pytest.mark.parametrize(("values", "q"), [([], 0.5), ([1], 1.5), ([1], -0.1)])
def test_there_is_no_quantile_of_nothing_nor_beyond_all(values, q):
    with pytest.raises(ValueError, match="no quantile"):
        quantile(values, q)


@given(some, st.floats(min_value=0, max_value=1))
def test_a_quantile_is_within_the_values(values, q):
    assert min(values) <= quantile(values, q) <= max(values) * (1 + 1e-12)


def test_a_spread_is_told_from_the_least_to_the_greatest():
    assert spread([3, 1, 2]) == spread([1, 2, 3])
    assert (spread([3, 1, 2]).low, spread([3, 1, 2]).median, spread([3, 1, 2]).high) == (1, 2, 3)


def test_above_one_is_in_our_favour_whatever_is_counted():
    assert advantage(Pair(2, 6), "lower") == 3
    assert advantage(Pair(6, 2), "higher") == 3
    assert advantage(Pair(6, 2), "lower") == pytest.approx(1 / 3)


@pytest.mark.parametrize("better", ["lower", "higher"])
@pytest.mark.parametrize("pair", [Pair(0, 5), Pair(5, 0), Pair(0, 0), Pair(-1, 5)])
def test_against_nothing_there_is_no_number(pair, better):
    assert advantage(pair, better) is None


def test_ratios_are_told_where_each_pair_has_one():
    assert advantages([Pair(1, 2), Pair(1, 4)], "lower") == spread([2, 4])
    assert advantages([Pair(1, 2), Pair(0, 4)], "lower") is None
    assert advantages([], "lower") is None


@given(above_nothing, above_nothing)
def test_who_changes_sides_changes_the_ratio_round(ours, other):
    both = advantage(Pair(ours, other), "lower") * advantage(Pair(other, ours), "lower")
    assert both == pytest.approx(1)


def test_percentiles_are_in_milliseconds():
    assert percentiles_ms([0.001] * 99 + [0.5]) == {"p50": 1.0, "p99": pytest.approx(5.99)}
