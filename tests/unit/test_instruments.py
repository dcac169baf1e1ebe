"""What is counted is what Prometheus reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mediaflow.telemetry.instruments import Meter, Spread, Tally
from mediaflow.telemetry.metrics import Metrics


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name.startswith(f"mediaflow_{name}")
    }


def test_a_counter_shows_a_cause_at_zero_before_it_ever_happened():
    tally = Tally("moves", "Moves.", "cause", known=("crash", "drain"))
    metrics = Metrics()
    metrics.show([tally])
    assert samples(metrics, "moves") == {
        ("mediaflow_moves_total", "crash"): 0,
        ("mediaflow_moves_total", "drain"): 0,
    }
    tally.add("crash", by=2)
    tally.add("flood")
    assert samples(metrics, "moves")["mediaflow_moves_total", "crash"] == 2
    assert samples(metrics, "moves")["mediaflow_moves_total", "flood"] == 1
    assert tally.total == 3


def test_a_histogram_counts_a_value_at_its_bound_within_it():
    spread = Spread("waits_seconds", "Waits.", (0.1, 1.0))
    metrics = Metrics()
    metrics.show([spread])
    for value in (0.0, 0.1, 0.5, 1.0, 7.0):
        spread.observe(value)
    assert samples(metrics, "waits") == {
        ("mediaflow_waits_seconds_bucket", "0.1"): 2,
        ("mediaflow_waits_seconds_bucket", "1.0"): 4,
        ("mediaflow_waits_seconds_bucket", "+Inf"): 5,
        ("mediaflow_waits_seconds_count",): 5,
        ("mediaflow_waits_seconds_sum",): 8.6,
    }
    assert spread.count == 5


@given(st.lists(st.one_of(st.floats(0, 12), st.sampled_from([0.1, 1.0, 10.0]))))
def test_many_values_taken_in_at_once_are_counted_as_they_are_one_by_one(values):
    single, together = Spread("one", "One.", (0.1, 1.0, 10.0)), Spread("two", "Two.", (0.1, 1.0, 10.0))
    for value in values:
        single.observe(value)
    together.observe_all(values)
    assert together.rows[()].counts == single.rows[()].counts
    assert together.rows[()].sum == pytest.approx(single.rows[()].sum)


def test_a_gauge_with_a_label_is_asked_when_it_is_read():
    waiting = {"active": 1.0}
    metrics = Metrics()
    metrics.gauges("held", "Held.", "state", lambda: waiting)
    waiting["pending"] = 2.0
    assert samples(metrics, "held") == {("mediaflow_held", "active"): 1, ("mediaflow_held", "pending"): 2}


def test_a_meter_shows_all_that_it_measures():
    class Pair(Meter):
        def __init__(self):
            self.one = Tally("one", "One.")
            self.two = Spread("two_seconds", "Two.", (1.0,))

    assert [instrument.name for instrument in Pair().instruments] == ["one", "two_seconds"]
