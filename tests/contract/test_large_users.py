"""Users with many streams: a request reads a few fields of theirs, and answers as if it had read all."""

import random
from collections import Counter
from typing import Any

import pytest
from harness.limiters import Bench, be_patient, ending, outcome

from mediaflow.limiter import StreamEnded, StreamRefused, StreamUnknown

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


class Household:
    """A user whose players do as they are told."""

    def __init__(self, limiter: Any, user_id: str) -> None:
        self.user_id = user_id
        self._limiter = limiter
        self._ids: list[str] = []

    async def do(self, step: tuple[str, int, dict[str, Any]]) -> tuple[Any, ...]:
        """Take a step; return all that the answer says and both users have in common."""
        what, number, told = step
        try:
            if what == "start":
                answer = await self._limiter.start(self.user_id, **told)
                self._ids.append(answer.stream_id)
                return what, answer.limit, answer.active
            stream_id = self._ids[number % len(self._ids)]
            if what == "beat":
                return what, (await self._limiter.heartbeat(self.user_id, stream_id)).active
            if what == "stop":
                return what, await self._limiter.stop(self.user_id, stream_id)
            told = {**told, "replaces": stream_id}
            answer = await self._limiter.start(self.user_id, **told)
            self._ids.append(answer.stream_id)
        except StreamRefused as refused:
            found = [
                (one.policy, one.rule, one.threshold, len(one.termination_codes)) for one in refused.advice
            ]
            return "refused", refused.limit, refused.active, found
        except StreamEnded as ended:
            return "ended", ended.reason
        return what, answer.active


def steps(number: int, draw: random.Random) -> list[tuple[str, int, dict[str, Any]]]:
    kinds = draw.choices(["start", "beat", "stop", "replace"], [6, 3, 2, 1], k=number)
    kinds[:60] = ["start"] * 60
    return [
        (
            kind,
            draw.randrange(10_000),
            {
                "device_id": f"device-{draw.randrange(12)}",
                "metadata": {
                    "channel": draw.randrange(3),
                    "kind": draw.choice(["live", "film"]),
                    "room": draw.choice(["a", "b:c", "b"]),
                },
                "on_limit": draw.choice(["reject", "reject", "stop_oldest"]),
            },
        )
        for kind in kinds
    ]


@pytest.mark.parametrize("count_by", ["stream", "device"])
async def test_a_user_of_whom_a_few_fields_are_read_is_answered_like_one_of_whom_all_are(bench, count_by):
    limiter = await bench.open(
        stream_limit=60 if count_by == "stream" else 11, count_by=count_by, stream_rules=RULES
    )
    lean, whole = Household(limiter, "lean"), Household(limiter, "whole")
    seen: Counter[str] = Counter()
    key_of: dict[str, str] = {}
    # So few that nothing that has ended is forgotten: that happens when all is read.
    for step in steps(130, random.Random(count_by)):
        if "whole" in key_of:
            forget_counts(bench, key_of["whole"])
        found = await lean.do(step)
        if "lean" not in key_of:
            (key_of["lean"],) = bench.user_keys()
        assert found == await whole.do(step)
        if "whole" not in key_of:
            (key_of["whole"],) = set(bench.user_keys()) - {key_of["lean"]}
        assert counts(bench, key_of["lean"]) == counts(bench, key_of["whole"])
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
    loose, tight = [
        await bench.open(
            stream_limit=100, stream_rules=[{"policy": name, "max": most, "attribute": "channel"}]
        )
        for name, most in (("loose", 100), ("tight", 50))
    ]
    for number in range(50):
        await loose.start("user", f"device-{number}", {"channel": 1})
    assert await outcome(tight.start("user", "tv", {"channel": 1})) == "refused"
    assert await outcome(tight.start("user", "tv", {"channel": 2})) == "fine"
    assert (await loose.start("user", "tv", {"channel": 1})).active == 52


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
