"""Users with many streams, of which some fall silent: what is counted of them admits nobody whom the rules refuse."""

import random

import msgspec
import pytest
from harness.households import Household, steps
from harness.limiters import MovableClock, be_patient, bench_in_process

RULES = [
    {"policy": "all", "max": 14},
    {"policy": "channel", "max": 6, "attribute": "channel"},
    {"policy": "live", "max": 4, "count": "devices", "where": {"kind": "live"}},
    {"policy": "room", "max": 4, "count": "devices", "attribute": "room"},
]


@pytest.fixture
def clock(monkeypatch):
    return MovableClock(monkeypatch)


@pytest.fixture
async def bench(clock, monkeypatch):
    be_patient(monkeypatch)
    async with bench_in_process(clock, stream_throttle=1_000_000) as made:
        yield made


@pytest.mark.parametrize("seed", range(2))
async def test_as_streams_fall_silent_counts_refuse_and_admit_like_all_that_is_known(bench, clock, seed):
    limiter = await bench.open(
        stream_limit=1_000, stream_rules=RULES, retention=86_400, count_by=("stream", "device")[seed % 2]
    )
    draw = random.Random(seed)
    lean, whole = Household(limiter, "lean"), Household(limiter, "whole")
    refused = trusted = 0

    def read_at(household: Household) -> int | None:
        head = bench.raw.hget(household.key, "n")
        return msgspec.json.decode(head)["read_ms"] if head else None

    for step in steps(110, draw):
        clock.move(draw.choice([0.001] * 6 + [3.0, 25.0]))
        bench.raw.hdel(whole.key, "n")
        before = read_at(lean)
        found, expected = await lean.do(step), await whole.do(step)
        assert found[0] == expected[0]
        if found[0] == "refused":
            assert found == expected
        one, other = await limiter.list("lean"), await limiter.list("whole")
        assert [stream.device_id for stream in one.streams] == [stream.device_id for stream in other.streams]
        refused += found[0] == "refused"
        trusted += before is not None and before == read_at(lean)
    assert refused > 3
    assert trusted > 15


async def test_of_a_user_with_many_streams_the_silent_are_soon_counted_no_more(bench, clock):
    limiter = await bench.open(stream_limit=1_000)
    begun = [await limiter.start("user", f"device-{number}") for number in range(40)]
    clock.move(60)
    for one in begun[:10]:
        await limiter.heartbeat("user", one.stream_id)
    clock.move(31)  # the others have been silent for longer than streams live
    assert (await limiter.heartbeat("user", begun[0].stream_id)).active == 10
    assert limiter.counts["expired"] == 30


async def test_what_has_ended_is_forgotten_also_of_a_user_of_whom_little_is_read(bench, clock):
    limiter = await bench.open(stream_limit=10)
    for number in range(200):
        clock.move(0.1)
        await limiter.stop("user", (await limiter.start("user", f"device-{number}")).stream_id)
    (key,) = bench.user_keys()
    assert bench.raw.hlen(key) < 160


async def test_the_silent_are_counted_no_more_though_the_clock_of_redis_was_set_back(bench, clock):
    limiter = await bench.open(stream_limit=1_000)
    for number in range(40):
        await limiter.start("user", f"device-{number}")
    clock.move(-3_600)
    await limiter.start("user", "silent")
    kept = await limiter.start("user", "kept")
    for _ in range(4):
        clock.move(30)
        beaten = await limiter.heartbeat("user", kept.stream_id)
    assert beaten.active == 41  # for the others the old time has not come yet
