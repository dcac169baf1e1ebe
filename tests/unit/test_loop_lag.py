"""When the event loop is said to be blocked, and by whom: a wrong accusation costs people hours."""

import asyncio
import sys
import threading

import structlog
from harness.waiting import eventually

from mediaflow.telemetry import lag
from mediaflow.telemetry.lag import (
    AGAIN_S,
    BEAT_S,
    BLOCKED_S,
    PEAK_WINDOW_S,
    QUIET_S,
    STARVED_S,
    Peak,
    Seen,
    Work,
    look,
)
from mediaflow.telemetry.metrics import Metrics

LATE_S = BEAT_S + BLOCKED_S


def test_a_beat_in_time_is_fine_and_a_late_one_is_told_once():
    seen, verdict = look(Seen(next_s=10.0), beat_s=10.0, now_s=10.0)
    assert verdict == "fine"
    seen, verdict = look(seen, beat_s=10.0, now_s=10.0 + LATE_S)
    assert verdict == "tell"
    assert look(seen, beat_s=10.0, now_s=seen.next_s)[1] == "fine", "the same block, seen again"


def test_a_block_is_looked_at_as_soon_as_the_last_beat_is_overdue_however_many_came_in_between():
    seen, _ = look(Seen(next_s=10.0), beat_s=10.0, now_s=10.0)
    assert seen.next_s == 10.0 + LATE_S
    beat_s = 10.0 + 2 * BEAT_S  # the last before the block
    seen, verdict = look(seen, beat_s=beat_s, now_s=seen.next_s)
    assert (seen.next_s, verdict) == (beat_s + LATE_S, "fine")
    seen, verdict = look(seen, beat_s=beat_s, now_s=seen.next_s)
    assert (seen.next_s, verdict) == (beat_s + LATE_S + AGAIN_S, "tell")


def test_blocks_soon_after_another_are_counted_and_not_told():
    seen = Seen(next_s=100.0, told_s=95.0)
    seen, verdict = look(seen, beat_s=99.0, now_s=100.0)
    assert (verdict, seen.untold) == ("note", 1)
    later_s = 95.0 + QUIET_S
    seen = Seen(next_s=later_s, told_s=seen.told_s, untold=seen.untold, beat_s=seen.beat_s)
    seen, verdict = look(seen, beat_s=later_s - 1, now_s=later_s)
    assert (verdict, seen.untold) == ("tell", 0)


def test_a_process_that_stood_still_itself_accuses_nobody_until_it_has_run_for_a_while():
    seen, verdict = look(Seen(next_s=10.0), beat_s=10.0, now_s=10.0 + LATE_S + 2 * STARVED_S)
    assert verdict == "fine"
    assert look(seen, beat_s=10.0, now_s=seen.next_s)[1] == "tell", "it runs, and the loop still does not"


def test_the_peak_is_forgotten_after_a_while():
    peak = Peak()
    peak.take(3.0, 0.0)
    peak.take(0.1, PEAK_WINDOW_S)
    assert peak.value == 3.0
    peak.take(0.2, 2 * PEAK_WINDOW_S)
    assert peak.value == 0.2
    peak.take(0.0, 9 * PEAK_WINDOW_S)
    assert peak.value == 0.0


async def test_the_handler_that_blocked_is_named_with_its_call_and_line():
    metrics = Metrics()
    seen_by_thread = threading.Event()

    async def greedy():
        lag.doing(Work("recorder.record", {"call": "call-7", "session": "s"}))
        assert seen_by_thread.wait(20)  # held until it is caught: no shorter, no longer

    def note(_, __, event):
        if event["event"] == "loop.blocked":
            lines.append(event)
            seen_by_thread.set()
        raise structlog.DropEvent

    lines = []
    before = structlog.get_config()
    structlog.configure(processors=[note], cache_logger_on_first_use=False)
    try:
        with lag.watching(metrics):
            await asyncio.create_task(greedy())
            await eventually(
                lambda: b'loop_blocked_seconds_count{handler="recorder.record"} 1' in metrics.exposition(), 5
            )
    finally:
        structlog.configure(**before)
    assert (lines[0]["handler"], lines[0]["call"]) == ("recorder.record", "call-7")
    assert lines[0]["at"].startswith(f"{__file__}:")
    assert "greedy" in lines[0]["at"]
    assert "mediaflow_loop_lag_max_seconds" in metrics.exposition().decode()


def test_a_place_in_the_standard_library_is_told_as_the_line_that_called_it():
    frames = []
    sorted([1], key=lambda _: frames.append(sys._getframe()))
    assert lag.where(frames[0]).startswith(__file__)
    assert lag.where(None) == "(unknown)"
