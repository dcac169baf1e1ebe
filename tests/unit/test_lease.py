"""The owner's deadlines: it renews in time, and stops before anyone else may start."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.core.lease import (
    CLOCK_DRIFT,
    LEASE_CLOCK_CAP_S,
    MIN_TTL_S,
    deadlines,
    margin_s,
    retry_after_s,
    spread_towards,
)

times_s = st.floats(0, 1e8)
ttls_s = st.floats(MIN_TTL_S, 3600)
spreads = st.floats(0, 1)


@given(times_s, ttls_s, spreads)
def test_renewal_comes_before_the_stop_and_the_stop_before_the_end(
    sent_at_s: float, ttl_s: float, spread: float
) -> None:
    renew_at_s, stop_at_s = deadlines(sent_at_s, ttl_s, spread=spread)
    assert sent_at_s < renew_at_s < stop_at_s < sent_at_s + ttl_s - LEASE_CLOCK_CAP_S


@given(ttls_s, st.floats(-CLOCK_DRIFT, CLOCK_DRIFT))
def test_an_owner_with_a_slow_clock_still_stops_before_the_lease_can_lapse(
    ttl_s: float, drift: float
) -> None:
    stop_after_s = deadlines(0.0, ttl_s).stop_at_s
    true_s = stop_after_s * (1 + drift)
    assert true_s <= ttl_s - LEASE_CLOCK_CAP_S


@given(ttls_s)
def test_after_the_latest_renewal_there_is_time_for_another(ttl_s: float) -> None:
    renew_at_s, stop_at_s = deadlines(0.0, ttl_s, spread=1.0)
    assert stop_at_s - renew_at_s >= ttl_s / 5


@given(ttls_s, spreads, spreads)
def test_spread_moves_renewals_apart_but_not_the_stop(ttl_s: float, one: float, other: float) -> None:
    first, second = deadlines(0.0, ttl_s, spread=one), deadlines(0.0, ttl_s, spread=other)
    assert first.stop_at_s == second.stop_at_s
    assert abs(first.renew_at_s - second.renew_at_s) <= ttl_s / 3 * 0.2 + 1e-9


@given(st.floats(0, 0.999), times_s, times_s, ttls_s)
def test_leases_of_one_place_are_renewed_together_after_a_few_renewals(
    place: float, one_s: float, other_s: float, ttl_s: float
) -> None:
    interval_s = ttl_s / 3

    def offset(sent_at_s: float) -> float:
        for _ in range(6):
            spread = spread_towards(place, sent_at_s, ttl_s)
            sent_at_s = deadlines(sent_at_s, ttl_s, spread=spread).renew_at_s
        return (sent_at_s / interval_s - place + 0.5) % 1 - 0.5

    assert offset(one_s) == pytest.approx(offset(other_s), abs=1e-3)
    assert offset(one_s) == pytest.approx(0, abs=1e-3)


@given(times_s, st.floats(0, 5), ttls_s)
def test_a_slow_answer_never_lengthens_the_lease(sent_at_s: float, took_s: float, ttl_s: float) -> None:
    assert deadlines(sent_at_s, ttl_s).stop_at_s <= deadlines(sent_at_s + took_s, ttl_s).stop_at_s


@pytest.mark.parametrize("ttl_s", [0, -1, 2.999, float("-inf")])
def test_a_lease_too_short_is_refused(ttl_s: float) -> None:
    with pytest.raises(ValueError, match=r"use 3\.0 s or more"):
        deadlines(0.0, ttl_s)


@pytest.mark.parametrize("spread", [-0.1, 1.1, float("nan")])
def test_a_spread_out_of_bounds_is_refused(spread: float) -> None:
    with pytest.raises(ValueError, match="use 0 to 1"):
        deadlines(0.0, 10.0, spread=spread)


@given(ttls_s, st.floats(0.2, 1))
def test_a_failed_renewal_is_tried_again_several_times_before_the_stop(ttl_s: float, left: float) -> None:
    stop_at_s = deadlines(0.0, ttl_s).stop_at_s
    now_s = stop_at_s * (1 - left)
    tries = 0
    while now_s < stop_at_s:
        now_s += retry_after_s(now_s, stop_at_s, ttl_s)
        tries += 1
        assert tries < 100, "the tries do not come to an end"
    assert tries >= 3


@given(times_s, ttls_s)
def test_past_the_stop_the_tries_go_on(now_s: float, ttl_s: float) -> None:
    assert retry_after_s(now_s, now_s, ttl_s) == retry_after_s(now_s + 50, now_s, ttl_s) == ttl_s / 10


@given(ttls_s)
def test_the_margin_is_a_small_part_of_the_lease(ttl_s: float) -> None:
    assert 0.1 <= margin_s(ttl_s) <= ttl_s / 18
