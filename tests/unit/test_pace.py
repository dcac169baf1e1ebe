"""The rate that an instance reports: steady where bursts come, and never of a moment alone."""

import msgspec
import pytest
from harness.laboratory import report

from mediaflow.runtime.pace import SPAN_S, Pace
from mediaflow.store import InstanceReport


def test_bursts_are_spread_over_some_seconds():
    pace = Pace()
    counts = [40 * (second // 2) for second in range(21)]
    seen = [pace.read(float(second), count) for second, count in enumerate(counts)]
    assert seen[0] == 0.0
    assert all(rate == pytest.approx(20.0, abs=5.0) for rate in seen[6:])


def test_the_first_moment_is_not_blown_up():
    pace = Pace()
    pace.read(100.0, 0)
    assert pace.read(100.01, 3) == 3.0
    assert pace.read(102.0, 4) == 2.0


def test_what_stopped_is_zero_after_the_span():
    pace = Pace()
    for second in range(10):
        pace.read(float(second), 10 * second)
    assert pace.read(9.0 + SPAN_S / 2, 90) > 0
    assert pace.read(10.0 + SPAN_S, 90) == 0.0


def test_a_long_silence_counts_in_full():
    pace = Pace()
    pace.read(0.0, 0)
    assert pace.read(50.0, 100) == 2.0


def test_heartbeats_in_quick_succession_lose_nothing():
    pace = Pace()
    for tick in range(1001):
        rate = pace.read(tick / 100, tick)
    assert rate == pytest.approx(100.0)


def test_an_instance_of_the_last_release_which_reports_no_rate_is_still_read():
    said = msgspec.to_builtins(report("a"))
    del said["renewals_per_s"]
    assert msgspec.convert(said, InstanceReport).renewals_per_s == 0.0
