"""The limiter on every kind of Redis: counted, decided and written in one step, and nothing left behind."""

import asyncio
import functools
import re
from typing import Any

import msgspec
import pytest
from harness.cutting import cut_off, tamper_with, was_cut
from harness.limiters import Bench, be_patient, ending, outcome, refusal, verified
from harness.waiting import eventually

from mediaflow.limiter import StreamKeyConflict, StreamThrottled, StreamUnknown
from mediaflow.limiter.stream_id import StreamFacts
from mediaflow.store import StoreError


@pytest.fixture
async def bench(topology, monkeypatch):
    topology.empty()
    be_patient(monkeypatch)
    # Were it too slow all the same, that must be seen as such, and not as one stream more.
    async with Bench(topology.url, topology.raw, on_store_down="deny") as made:
        yield made


async def test_of_fifty_parallel_starts_on_two_replicas_exactly_three_succeed(bench):
    one, other = await bench.open(stream_limit=3), await bench.open(stream_limit=3)
    for number in range(10):
        user = f"user-{number}"
        results = await asyncio.gather(
            *(outcome((one, other)[index % 2].start(user, f"device-{index}")) for index in range(50))
        )
        assert sorted(results) == ["fine"] * 3 + ["refused"] * 47
        assert (await one.list(user)).active == 3
    assert one.counts["started"] + other.counts["started"] == 30


async def test_fifty_parallel_takeovers_leave_exactly_as_many_as_may_play(bench):
    one, other = await bench.open(stream_limit=3), await bench.open(stream_limit=3)
    answers = await asyncio.gather(
        *(
            (one, other)[index % 2].start("user", f"device-{index}", on_limit="stop_oldest")
            for index in range(50)
        )
    )
    beats = [await outcome(one.heartbeat("user", answer.stream_id)) for answer in answers]
    assert sorted(beats) == ["fine"] * 3 + ["taken_over"] * 47
    assert one.counts["taken_over"] + other.counts["taken_over"] == 47


async def test_a_code_asked_for_fifty_times_at_once_ends_one_stream_once(bench):
    limiter = await bench.open(stream_limit=1)
    await limiter.start("user", "phone")
    (conflict,) = (await refusal(limiter.start("user", "tv"))).conflicts
    results = await asyncio.gather(
        *(
            outcome(limiter.start("user", f"device-{index}", terminate=[conflict.termination_code]))
            for index in range(50)
        )
    )
    assert sorted(results) == ["fine"] + ["refused"] * 49


async def test_a_stream_begins_beats_is_listed_and_stops(bench):
    limiter = await bench.open(stream_ttl=90, stream_heartbeat_interval=30)
    begun = await limiter.start("user", "phone", {"title": "é", "nested": {"list": [1, None]}})
    assert (begun.user_id, begun.device_id, begun.limit, begun.active) == ("user", "phone", 3, 1)
    assert (begun.ttl_ms, begun.heartbeat_interval_ms, begun.degraded) == (90_000, 30_000, False)
    beaten = await limiter.heartbeat("user", begun.stream_id)
    assert beaten.stream_id == begun.stream_id
    assert beaten.expires_at >= begun.expires_at
    listed = await limiter.list("user")
    assert (listed.limit, listed.active, len(listed.streams)) == (3, 1, 1)
    assert listed.streams[0].stream_id == begun.stream_id
    assert listed.streams[0].metadata == {"title": "é", "nested": {"list": [1, None]}}
    await limiter.stop("user", begun.stream_id)
    assert (await limiter.list("user")).streams == []
    for late in (limiter.heartbeat, limiter.stop):
        ended = await ending(late("user", begun.stream_id))
        assert (ended.reason, ended.terminated_by) == ("stopped", None)
    assert +limiter.counts == {"started": 1, "stopped": 1}


async def test_the_list_names_streams_as_their_players_know_them_oldest_first(bench):
    names = [f"attribute-{number}" for number in range(8)]
    rules = [{"policy": name, "max": 9, "attribute": name} for name in names]
    limiter = await bench.open(stream_rules=rules)
    begun = [
        await limiter.start(
            "user", f"device-{index}", dict.fromkeys(names, "same"), idempotency_key=f"key-{index}"
        )
        for index in range(3)
    ]
    listed = (await limiter.list("user")).streams
    assert {one.stream_id for one in listed} == {one.stream_id for one in begun}
    assert [one.started_at for one in listed] == sorted(one.started_at for one in listed)
    again = await limiter.start("user", "device-0", dict.fromkeys(names, "same"), idempotency_key="key-0")
    assert again.stream_id == begun[0].stream_id


async def test_an_id_is_unknown_unless_it_was_issued_for_this_very_user(bench):
    limiter = await bench.open()
    mine = (await limiter.start("user", "phone")).stream_id
    flipped = mine[:-1] + ("A" if mine[-1] != "A" else "Q")
    for user, stream_id in (
        ("user", "made-up"),
        ("user", flipped),
        ("user", mine + "x"),
        ("other", mine),
        ("USER", mine),
    ):
        for asked in (limiter.heartbeat, limiter.stop):
            with pytest.raises(StreamUnknown):
                await asked(user, stream_id)
    assert (await limiter.list("user")).active == 1
    assert (await limiter.list("other")).active == 0


async def test_a_refusal_names_every_violated_rule_with_its_own_conflicts(bench):
    limiter = await bench.open(
        stream_limit=2,
        stream_rules=[
            {"policy": "live", "max": 1, "where": {"contentType": "live", "uhd": True}},
            {"policy": "channel", "max": 1, "attribute": "channel"},
            {"policy": "roomy", "max": 9, "count": "devices"},
        ],
    )
    await limiter.start("user", "phone", {"contentType": "live", "uhd": True, "channel": 1})
    await limiter.start("user", "tv", {"contentType": "film", "channel": 2})
    refused = await refusal(limiter.start("user", "pad", {"contentType": "live", "uhd": True, "channel": 2}))
    codes = {one.device_id: one.termination_code for one in refused.conflicts}
    assert (refused.limit, refused.active, codes.keys()) == (2, 2, {"phone", "tv"})
    found = {one.policy: one for one in refused.advice}
    assert [one.policy for one in refused.advice] == ["user", "live", "channel"]
    assert set(found["user"].termination_codes) == set(codes.values())
    assert found["live"].termination_codes == [codes["phone"]]
    assert found["channel"].termination_codes == [codes["tv"]]
    assert (found["user"].rule, found["user"].attribute, found["user"].threshold) == ("streams", None, 2)
    assert (found["channel"].attribute, found["channel"].threshold) == ("channel", 1)
    metadata = {one.device_id: one.metadata for one in refused.conflicts}
    assert metadata["tv"] == {"contentType": "film", "channel": 2}
    assert limiter.counts["refused"] == 1


async def test_the_oldest_by_start_goes_even_if_it_beat_last(bench):
    limiter = await bench.open(stream_limit=2)
    oldest = await limiter.start("user", "phone")
    await asyncio.sleep(0.002)  # another millisecond of the server's clock
    younger = await limiter.start("user", "tv")
    await limiter.heartbeat("user", oldest.stream_id)
    third = await limiter.start("user", "pad", on_limit="stop_oldest")
    assert third.active == 2
    ended = await ending(limiter.heartbeat("user", oldest.stream_id))
    assert ended.reason == "taken_over"
    assert ended.terminated_by is not None
    assert ended.terminated_by.device_id == "pad"
    assert await outcome(limiter.heartbeat("user", younger.stream_id)) == "fine"
    assert await outcome(limiter.stop("user", oldest.stream_id)) == "taken_over"
    assert (await limiter.list("user")).active == 2, "its late requests touched nobody else"


async def test_a_start_asked_again_makes_no_second_stream_even_if_the_first_has_ended(bench):
    limiter = await bench.open(stream_limit=1)
    await limiter.jwks()
    facts = StreamFacts("key", "phone", 1, {}, "{}")
    request = limiter._request(facts, None) | {"on_limit": "reject", "terminate": [], "digest": ""}
    request = {name: value for name, value in request.items() if value is not None}
    store: Any = limiter._store
    asked = [await store.stream("start", "user", request) for _ in range(2)]
    assert [one["status"] for one in asked] == ["started", "started"]
    assert asked[0]["active"] == asked[1]["active"] == 1
    await limiter.start("user", "tv", on_limit="stop_oldest")
    late = await store.stream("start", "user", request)
    assert (late["status"], late["active"]) == ("started", 1)
    assert await outcome(limiter.heartbeat("user", limiter._keyring.issue("user", facts))) == "taken_over"


async def test_a_key_repeats_a_request_and_refuses_another(bench):
    limiter = await bench.open(stream_limit=1)
    first = await limiter.start("user", "phone", {"a": 1, "b": 2}, idempotency_key="key")
    again = await limiter.start("user", "phone", {"b": 2, "a": 1}, idempotency_key="key")
    assert again.stream_id == first.stream_id
    assert limiter.counts["started"] == 1
    others: list[dict[str, Any]] = [
        {"device_id": "tv"},
        {"metadata": {"a": 2, "b": 2}},
        {"on_limit": "stop_oldest"},
        {"terminate": ["code"]},
        {"replaces": first.stream_id},
    ]
    same: dict[str, Any] = {"device_id": "phone", "metadata": {"a": 1, "b": 2}, "idempotency_key": "key"}
    for other in others:
        with pytest.raises(StreamKeyConflict):
            await limiter.start("user", **{**same, **other})
    assert await outcome(limiter.start("other", **same)) == "fine", "a key is the user's"
    await limiter.stop("user", first.stream_id)
    after = await limiter.start("user", **same)
    assert (after.stream_id, after.ttl_ms, after.active) == (first.stream_id, 0, 0), "it makes no second one"
    assert await outcome(limiter.heartbeat("user", first.stream_id)) == "stopped"


async def test_a_claimed_limit_goes_before_the_users_own_before_the_setting(bench):
    limiter = await bench.open(stream_limit=1)
    assert (await limiter.list("user")).limit == 1
    await limiter.set_limit("user", 2)
    assert (await limiter.list("user")).limit == 2
    assert (await limiter.list("user", limit=3)).limit == 3
    assert (await limiter.list("other")).limit == 1
    assert [await outcome(limiter.start("user", "d", limit=3)) for _ in range(4)] == ["fine"] * 3 + [
        "refused"
    ]
    refused = await refusal(limiter.start("user", "d"))
    assert (refused.limit, refused.active) == (2, 3), "what was lowered leaves live streams alone"
    streams = (await limiter.list("user")).streams
    assert [await outcome(limiter.heartbeat("user", one.stream_id)) for one in streams] == ["fine"] * 3
    await limiter.stop("user", streams[0].stream_id)
    assert await outcome(limiter.start("user", "d")) == "refused"
    await limiter.stop("user", streams[1].stream_id)
    assert await outcome(limiter.start("user", "d")) == "fine"
    await limiter.set_limit("user", None)
    assert (await limiter.list("user")).limit == 1
    await limiter.set_limit("user", 0)
    assert (await refusal(limiter.start("nobody", "d", limit=0))).limit == 0


async def test_too_many_requests_are_put_off_and_stop_is_not(bench):
    limiter = await bench.open(stream_throttle=4)
    begun = await limiter.start("user", "phone")
    assert [await outcome(limiter.heartbeat("user", begun.stream_id)) for _ in range(3)] == ["fine"] * 3
    with pytest.raises(StreamThrottled) as throttled:
        await limiter.heartbeat("user", begun.stream_id)
    assert 1 <= throttled.value.retry_after_s <= 60
    assert await outcome(limiter.start("user", "tv")) == "throttled"
    assert await outcome(limiter.start("other", "tv")) == "fine"
    assert (await limiter.list("user")).active == 1, "it ends no stream"
    await limiter.stop("user", begun.stream_id)
    assert limiter.counts["throttled"] == 2


ODD = [
    "a+b",
    "a:b",
    "a*",
    "*",
    "{x}",
    "{",
    "é",
    "e\u0301",
    "a/b",
    "a b",
    "A",
    "a",
    "%61",
    "0",
    "s:a",
    "😀",
    "x" * 256,
    "é" * 256,
]


async def test_odd_user_ids_stay_apart_and_come_back_as_they_were(bench):
    limiter = await bench.open(stream_limit=1)
    begun = {user: await limiter.start(user, user) for user in ODD}
    for user, answer in begun.items():
        assert (answer.user_id, answer.device_id, answer.active) == (user, user, 1)
        assert await outcome(limiter.start(user, "another")) == "refused"
        assert [one.device_id for one in (await limiter.list(user)).streams] == [user]
        assert (await limiter.heartbeat(user, answer.stream_id)).stream_id == answer.stream_id


async def test_illegal_arguments_are_refused_with_the_reason(bench):
    limiter = await bench.open()
    for wrong in ("", "x" * 257, "a\x00", "a\n", "\x1f", "\x7f", "\x85", "\ud800"):
        for asking in (
            limiter.start(wrong, "device"),
            limiter.start("user", wrong),
            limiter.heartbeat(wrong, "x"),
            limiter.stop(wrong, "x"),
            limiter.list(wrong),
            limiter.set_limit(wrong, 1),
        ):
            with pytest.raises(ValueError):
                await asking
    with pytest.raises(ValueError, match="16384"):
        await limiter.start("user", "device", {"title": "x" * 16_384})
    with pytest.raises(ValueError, match="Idempotency-Key"):
        await limiter.start("user", "device", idempotency_key="a b")
    for limit in (-1, 10_001):
        with pytest.raises(ValueError, match="limit"):
            await limiter.set_limit("user", limit)
    assert bench.user_keys() == []


@pytest.mark.parametrize("filling", ["x", '"', "\\", "é", "😀", "\x01", "\u2028"])
async def test_a_stream_is_known_again_whatever_its_device_and_metadata_hold(bench, filling):
    limiter = await bench.open(
        stream_limit=50, stream_rules=[{"policy": "p", "max": 50, "attribute": "channel"}]
    )
    device = ("d" if filling == "\x01" else filling) * 256
    for length in (1, 60, 150, 290, 600):
        begun = await limiter.start("user", device, {"title": filling * length, "channel": filling * 9})
        assert len(begun.stream_id) <= 4096
        assert await outcome(limiter.heartbeat("user", begun.stream_id)) == "fine"
    with pytest.raises(ValueError, match="attributes that rules look at"):
        await limiter.start(
            "user", device, {"channel": filling * (9000 // (len(msgspec.json.encode(filling)) - 2))}
        )


async def test_all_of_a_user_lies_in_one_hash_slot_and_expires(bench):
    limiter = await bench.open(stream_limit=2, stream_ttl=60, retention=120)
    one = await limiter.start("user", "phone", idempotency_key="key")
    await limiter.start("user", "tv", idempotency_key="other")
    await refusal(limiter.start("user", "pad"))
    await limiter.start("user", "pad", on_limit="stop_oldest")
    await ending(limiter.heartbeat("user", one.stream_id))
    (key,) = bench.user_keys()
    assert 0 < bench.raw.pttl(key) <= 180_000
    await limiter.set_limit("user", 5)
    keys = bench.user_keys()
    assert len(keys) == 2
    assert len({re.findall(r"\{(.+?)\}", name)[0] for name in keys}) == 1
    assert [bench.raw.pttl(name) for name in keys if name != key] == [-1], "what was set stays"
    await limiter.set_limit("user", None)
    assert bench.user_keys() == [key]


async def test_who_only_asks_leaves_nothing(bench):
    limiter = await bench.open()
    await limiter.list("user")
    assert bench.user_keys() == []


@pytest.mark.parametrize("topology", [pytest.param("redis", marks=pytest.mark.redis)], indirect=True)
async def test_a_silent_stream_expires_by_the_servers_clock_and_comes_back_if_there_is_room(bench):
    limiter = await bench.open(stream_limit=1, stream_ttl=1, stream_heartbeat_interval=0.3)
    silent = await limiter.start("user", "phone")

    async def is_free():
        return (await limiter.list("user")).active == 0

    await eventually(is_free, within_s=5)
    assert await outcome(limiter.heartbeat("user", silent.stream_id)) == "fine"
    assert limiter.counts["readmitted"] == 1
    await eventually(is_free, within_s=5)
    assert await outcome(limiter.start("user", "tv")) == "fine"
    assert await outcome(limiter.heartbeat("user", silent.stream_id)) == "expired"
    assert limiter.counts["expired"] == 1


async def test_what_redis_forgot_heals_by_itself(bench):
    limiter = await bench.open(
        stream_limit=2, stream_rules=[{"policy": "p", "max": 1, "attribute": "channel"}]
    )
    begun = [await limiter.start("user", f"device-{n}", {"channel": n, "title": "x"}) for n in range(2)]
    bench.raw.delete(*bench.user_keys())
    for one in begun:
        assert (await limiter.heartbeat("user", one.stream_id)).stream_id == one.stream_id
    listed = await limiter.list("user")
    assert [one.metadata for one in listed.streams] == [{"channel": n, "title": "x"} for n in range(2)]
    assert await outcome(limiter.start("user", "third")) == "refused"
    bench.raw.delete(*bench.user_keys())
    assert await outcome(limiter.start("user", "third", {"channel": 0})) == "fine"
    assert await outcome(limiter.heartbeat("user", begun[0].stream_id)) == "expired", "its channel is taken"
    assert await outcome(limiter.stop("user", begun[1].stream_id)) == "fine"
    assert await outcome(limiter.heartbeat("user", begun[1].stream_id)) == "stopped", "never admitted again"


async def test_replicas_agree_on_the_key_that_others_verify_tokens_by(bench):
    one, other = await bench.open(), await bench.open()
    keys, others = await asyncio.gather(one.jwks(), other.jwks())
    assert keys == others
    begun = await one.start("user", "phone", limit=7)
    beaten = await other.heartbeat("user", begun.stream_id)
    assert beaten.stream_id == begun.stream_id
    for answer in (begun, beaten):
        claims = verified(answer.token or "", keys, "EdDSA")
        assert (claims["sub"], claims["device"], claims["stream"]) == ("user", "phone", begun.stream_id)
        assert (claims["limit"], claims["active"]) == (answer.limit, 1)
        assert 89 <= claims["exp"] - claims["iat"] <= 91
    (key,) = (key for key in bench.raw.keys(f"{bench.namespace}:*") if key.endswith(b"token_key"))
    assert bench.raw.pttl(key) == -1


@pytest.mark.parametrize("topology", [pytest.param("redis", marks=pytest.mark.redis)], indirect=True)
async def test_streams_that_end_all_at_once_are_too_many_for_no_request(bench):
    """Lua takes some 8,000 words in one call."""
    limiter = await bench.open(stream_limit=10_000, stream_throttle=1_000_000)
    begun = await limiter.start("user", "phone", idempotency_key="key")
    (key,) = bench.user_keys()
    fields = bench.raw.hgetall(key)
    stream = next(value for field, value in fields.items() if field.startswith(b"s:"))
    over = re.sub(rb'"expires_ms":\d+', b'"expires_ms":1800', stream)
    known = re.sub(rb'"at_ms":\d+', b'"at_ms":1800', fields[b"k:key"])
    bench.raw.hset(
        key, mapping={f"s:{n}": over for n in range(5_000)} | {f"k:{n}": known for n in range(5_000)}
    )
    assert await outcome(limiter.heartbeat("user", begun.stream_id)) == "fine"
    assert limiter.counts["expired"] == 5_000
    assert bench.raw.hlen(key) < 60


# -- cut off in the middle -----------------------------------------------------------------


@pytest.mark.parametrize("what", ["stream_start", "stream_beat", "stream_stop"])
async def test_a_script_that_stops_in_the_middle_leaves_what_the_next_request_puts_right(bench, what):
    limiter = await bench.open(stream_limit=2)
    link = tamper_with(limiter._store)

    async def is_cut(asking: Any) -> bool:
        link.script = what
        try:
            await asking
        except StoreError as error:
            if not was_cut(error):
                raise
            return True
        finally:
            link.script = ""
        return False

    for fail_at in range(1, 20):
        user = f"user-{fail_at}"
        oldest = await limiter.start(user, "phone", idempotency_key="1")
        await asyncio.sleep(0.002)  # another millisecond of the server's clock
        second = await limiter.start(user, "tv", idempotency_key="2")
        link.tamper = functools.partial(cut_off, fail_at=fail_at)
        cut = await is_cut(
            {
                "stream_start": lambda user=user: limiter.start(
                    user, "pad", on_limit="stop_oldest", idempotency_key="3"
                ),
                "stream_beat": lambda user=user, one=oldest: limiter.heartbeat(user, one.stream_id),
                "stream_stop": lambda user=user, one=oldest: limiter.stop(user, one.stream_id),
            }[what]()
        )
        if not cut:
            break
        # Asked for again, as its client does.
        if what == "stream_start":
            await limiter.start(user, "pad", on_limit="stop_oldest", idempotency_key="3")
            assert await outcome(limiter.heartbeat(user, oldest.stream_id)) == "taken_over"
        elif what == "stream_stop":
            assert await outcome(limiter.stop(user, oldest.stream_id)) in ("fine", "stopped")
            await limiter.start(user, "pad")
            assert await outcome(limiter.heartbeat(user, oldest.stream_id)) == "stopped"
        else:
            assert await outcome(limiter.heartbeat(user, oldest.stream_id)) == "fine"
        assert await outcome(limiter.heartbeat(user, second.stream_id)) == "fine"
        assert (await limiter.list(user)).active == 2, f"cut off before command {fail_at}"
        assert await outcome(limiter.start(user, "one too many")) == "refused"
    else:
        pytest.fail("a script runs more than 19 commands")
    assert fail_at > 3
    assert all(bench.raw.pttl(key) > 0 for key in bench.user_keys())
