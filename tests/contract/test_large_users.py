"""Users with many streams: a request reads a few fields of theirs, and answers as if it had read all."""

import random
from collections import Counter

import pytest
from harness.households import Household, steps
from harness.limiters import Bench, be_patient, ending, outcome

from mediaflow.limiter import StreamUnknown

RULES = [
    {"policy": "channel", "max": 40, "attribute": "channel"},
    {"policy": "live", "max": 9, "count": "devices", "where": {"kind": "live"}},
    {"policy": "room", "max": 7, "count": "devices", "attribute": "room"},
]


@pytest.fixture
async def bench(topology, monkeypatch):
    topology.empty()
    be_patient(monkeypatch)
    async with Bench(
        topology.url, topology.raw, on_store_down="deny", stream_throttle=1_000_000, stream_tokens=False
    ) as made:
        yield made


def forget_counts(bench: Bench, key: str) -> None:
    """Have the next request of a user read all."""
    bench.raw.hdel(key, "n")


def counts(bench: Bench, key: str) -> dict[bytes, bytes]:
    return {field: value for field, value in bench.raw.hgetall(key).items() if field[:2] in (b"c:", b"d:")}


@pytest.mark.parametrize("count_by", ["stream", "device"])
async def test_a_user_of_whom_a_few_fields_are_read_is_answered_like_one_of_whom_all_are(bench, count_by):
    limiter = await bench.open(
        stream_limit=60 if count_by == "stream" else 11, count_by=count_by, stream_rules=RULES
    )
    lean, whole = Household(limiter, "lean"), Household(limiter, "whole")
    seen: Counter[str] = Counter()
    # So few that nothing that has ended is forgotten: that happens when all is read.
    for step in steps(130, random.Random(count_by)):
        forget_counts(bench, whole.key)
        found = await lean.do(step)
        assert found == await whole.do(step)
        assert counts(bench, lean.key) == counts(bench, whole.key)
        seen[found[0]] += 1
    assert min(seen[what] for what in ("start", "beat", "stop", "replace", "refused")) > 3


@pytest.mark.parametrize("topology", [pytest.param("redis", marks=pytest.mark.redis)], indirect=True)
async def test_requests_of_a_user_with_many_streams_read_only_their_own(bench):
    limiter = await bench.open(stream_limit=10_000, stream_rules=RULES[1:])
    begun = [await limiter.start("user", f"device-{number}") for number in range(1_000)]

    def whole_reads() -> int:
        return int(bench.raw.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"])

    before = whole_reads()
    for number in range(0, 100, 2):
        assert (await limiter.start("user", "another")).active == 1_001
        assert (await limiter.heartbeat("user", begun[number].stream_id)).active == 1_001
        await limiter.stop("user", begun[number + 1].stream_id)
    assert whole_reads() - before <= 1
    assert len((await limiter.list("user")).streams) == 1_000


@pytest.mark.parametrize("topology", [pytest.param("redis", marks=pytest.mark.redis)], indirect=True)
async def test_a_rule_that_is_new_counts_what_began_before_it(bench):
    kind, loose = ({"policy": name, "max": 100, "attribute": name} for name in ("kind", "channel"))
    before = await bench.open(stream_limit=100, stream_rules=[kind, loose])
    after = await bench.open(stream_limit=100, stream_rules=[{**loose, "max": 50}])
    for number in range(50):
        await before.start("user", f"device-{number}", {"kind": "live", "channel": 1})
    assert await outcome(after.start("user", "tv", {"channel": 1})) == "refused"
    assert await outcome(after.start("user", "tv", {"channel": 2})) == "fine"
    assert (await before.start("user", "tv", {"channel": 1})).active == 52


async def test_whoever_writes_without_counting_is_noticed(bench):
    limiter = await bench.open(stream_limit=60)
    begun = [await limiter.start("user", f"device-{number}") for number in range(59)]
    (key,) = bench.user_keys()
    fields = bench.raw.hgetall(key)
    planted = next(value for field, value in fields.items() if field.startswith(b"s:"))
    bench.raw.hset(key, "s:planted", planted)
    assert await outcome(limiter.start("user", "one too many")) == "refused"
    await limiter.stop("user", begun[0].stream_id)
    assert (await limiter.start("user", "fits")).active == 60


async def test_a_user_who_has_little_again_keeps_no_counts(bench):
    limiter = await bench.open(stream_limit=1_000, count_by="device")
    begun = [await limiter.start("user", f"device-{number}") for number in range(40)]
    (key,) = bench.user_keys()
    assert counts(bench, key)
    for one in begun[1:]:
        await limiter.stop("user", one.stream_id)
    bench.raw.hdel(key, *(field for field in bench.raw.hgetall(key) if field.startswith(b"e:")))
    assert (await limiter.heartbeat("user", begun[0].stream_id)).active == 1
    assert not counts(bench, key)
    with pytest.raises(StreamUnknown):
        await limiter.stop("user", "made-up")
    assert (await limiter.start("user", "device-0")).active == 1, "a device counts once"
    await limiter.stop("user", begun[0].stream_id)
    assert (await ending(limiter.heartbeat("user", begun[0].stream_id))).reason == "stopped"
