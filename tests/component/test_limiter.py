"""The limiter in process, on a clock that stands still: what time does to streams, and every rule against a model."""

import asyncio
import uuid
from typing import Any, NamedTuple

import fakeredis
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from harness.limiters import MovableClock, be_patient, bench_in_process, ending, outcome, refusal, verified
from hypothesis import given, settings
from hypothesis import strategies as st

from mediaflow.limiter import StreamLimiter, StreamThrottled
from mediaflow.limiter.stream_id import unverified
from mediaflow.store import single

TTL_S = 90.0


@pytest.fixture
def clock(monkeypatch):
    return MovableClock(monkeypatch)


@pytest.fixture
async def bench(clock, monkeypatch):
    be_patient(monkeypatch)
    async with bench_in_process(clock) as made:
        yield made


# -- expiry ------------------------------------------------------------------------------------


async def test_a_stream_lives_exactly_as_long_as_was_said_and_each_beat_begins_anew(bench, clock):
    limiter = await bench.open(stream_limit=1)
    begun = await limiter.start("user", "phone")
    assert (begun.ttl_ms, begun.expires_at) == (90_000, "2027-01-15T08:01:30.000Z")
    clock.move(TTL_S - 0.001)
    assert await outcome(limiter.start("user", "tv")) == "refused"
    beaten = await limiter.heartbeat("user", begun.stream_id)
    assert (beaten.ttl_ms, beaten.expires_at) == (90_000, "2027-01-15T08:02:59.999Z")
    clock.move(TTL_S)
    assert (await limiter.list("user")).active == 0
    assert await outcome(limiter.start("user", "tv")) == "fine"
    assert limiter.counts["expired"] == 1


async def test_the_clock_of_this_process_decides_nothing(bench, clock):
    limiter = await bench.open(stream_limit=1, now_ms=lambda: 0)
    begun = await limiter.start("user", "phone")
    assert begun.expires_at == "2027-01-15T08:01:30.000Z"
    assert await outcome(limiter.start("user", "tv")) == "refused"
    assert await outcome(limiter.heartbeat("user", begun.stream_id)) == "fine"


async def test_an_expired_stream_comes_back_as_what_it_was(bench, clock):
    limiter = await bench.open(stream_limit=2)
    first = await limiter.start("user", "phone", {"title": "x"})
    clock.move(1)
    second = await limiter.start("user", "tv")
    clock.move(TTL_S)
    assert (await limiter.heartbeat("user", second.stream_id)).active == 1
    assert (await limiter.heartbeat("user", first.stream_id)).active == 2
    listed = (await limiter.list("user")).streams
    assert [one.stream_id for one in listed] == [first.stream_id, second.stream_id], (
        "the oldest is still the oldest"
    )
    assert listed[0].metadata == {"title": "x"}
    assert limiter.counts["readmitted"] == 2
    third = await limiter.start("user", "pad", on_limit="stop_oldest")
    assert await outcome(limiter.heartbeat("user", first.stream_id)) == "taken_over"
    assert await outcome(limiter.heartbeat("user", third.stream_id)) == "fine"


async def test_no_stream_comes_back_that_was_stopped_or_taken_over_or_does_not_fit(bench, clock):
    limiter = await bench.open(stream_limit=2)
    stopped = await limiter.start("user", "stopped")
    victim = await limiter.start("user", "victim")
    await limiter.stop("user", stopped.stream_id)
    clock.move(1)
    await limiter.start("user", "between")
    clock.move(1)
    crowded_out = await limiter.start("user", "heir", on_limit="stop_oldest")
    clock.move(TTL_S + 1)
    assert await outcome(limiter.heartbeat("user", stopped.stream_id)) == "stopped"
    assert await outcome(limiter.heartbeat("user", victim.stream_id)) == "taken_over"
    new = [await limiter.start("user", "new") for _ in range(2)]
    assert await outcome(limiter.heartbeat("user", crowded_out.stream_id)) == "expired"
    assert (await limiter.list("user")).active == 2
    await limiter.stop("user", new[0].stream_id)
    assert await outcome(limiter.heartbeat("user", crowded_out.stream_id)) == "fine", "now there is room"


async def test_without_readmission_an_expired_stream_stays_expired(bench, clock):
    limiter = await bench.open(readmit=False)
    begun = await limiter.start("user", "phone")
    clock.move(TTL_S)
    ended = await ending(limiter.heartbeat("user", begun.stream_id))
    assert (ended.reason, ended.terminated_by) == ("expired", None)
    assert await outcome(limiter.stop("user", begun.stream_id)) == "expired"
    assert limiter.counts["readmitted"] == limiter.counts["stopped"] == 0


async def test_late_requests_of_an_ended_stream_leave_its_successor_alone(bench, clock):
    limiter = await bench.open(stream_limit=1)
    old = await limiter.start("user", "phone", idempotency_key="old")
    clock.move(1)
    new = await limiter.start("user", "phone", on_limit="stop_oldest", idempotency_key="new")
    before = (await limiter.list("user")).streams
    clock.move(1)
    assert await outcome(limiter.heartbeat("user", old.stream_id)) == "taken_over"
    assert await outcome(limiter.stop("user", old.stream_id)) == "taken_over"
    assert (await limiter.list("user")).streams == before
    assert before[0].stream_id == new.stream_id


async def test_nothing_of_a_user_is_left_who_is_away(bench, clock):
    limiter = await bench.open(stream_limit=2, retention=600)
    for _ in range(3):
        await limiter.start("user", "phone", on_limit="stop_oldest", idempotency_key=uuid.uuid4().hex)
        await limiter.start("other", "phone", on_limit="stop_oldest")
        clock.move(1)
    assert len(bench.user_keys()) == 2
    clock.move(600 + TTL_S)
    assert bench.user_keys() == []


@pytest.mark.slow
async def test_one_who_never_stops_coming_and_going_does_not_grow(bench, clock):
    limiter = await bench.open(stream_limit=1, stream_throttle=1_000_000)
    for number in range(80):
        begun = await limiter.start("user", "phone", on_limit="stop_oldest", idempotency_key=str(number))
        await limiter.heartbeat("user", begun.stream_id)
        clock.move(1)
    assert bench.raw.hlen(bench.user_keys()[0]) < 170


# -- who makes room ----------------------------------------------------------------------------


async def test_a_code_ends_one_stream_of_its_user_once(bench, clock):
    limiter = await bench.open(stream_limit=1)
    phone = await limiter.start("user", "phone", {"title": "film"})
    await limiter.start("other", "phone")
    (conflict,) = (await refusal(limiter.start("user", "tv"))).conflicts
    assert (conflict.device_id, conflict.metadata) == ("phone", {"title": "film"})
    code = conflict.termination_code
    assert await outcome(limiter.start("other", "tv", terminate=[code])) == "refused", "it is no other user's"
    for made_up in ("", "made up", phone.stream_id, "*"):
        assert await outcome(limiter.start("user", "tv", terminate=[made_up])) == "refused"
    heir = await limiter.start("user", "tv", terminate=["unknown", code, code])
    ended = await ending(limiter.heartbeat("user", phone.stream_id))
    assert ended.terminated_by is not None
    assert (ended.reason, ended.terminated_by.device_id) == ("taken_over", "tv")
    assert ended.terminated_by.at == "2027-01-15T08:00:00.000Z"
    assert await outcome(limiter.start("user", "pad", terminate=[code])) == "refused", "and no second time"
    assert await outcome(limiter.heartbeat("user", heir.stream_id)) == "fine"
    assert limiter.counts["taken_over"] == 1


async def test_nothing_changes_if_it_would_still_not_fit(bench, clock):
    limiter = await bench.open(
        stream_limit=3, stream_rules=[{"policy": "never", "max": 0, "where": {"kind": "banned"}}]
    )
    streams = [await limiter.start("user", f"device-{n}") for n in range(3)]
    codes = [one.termination_code for one in (await refusal(limiter.start("user", "d"))).conflicts]
    await limiter.set_limit("user", 1)
    before = (await limiter.list("user")).streams
    refused = await refusal(limiter.start("user", "tv", terminate=codes[:1], replaces=streams[1].stream_id))
    assert [one.termination_code for one in refused.conflicts] == codes, "each is still in the way"
    await refusal(limiter.start("user", "tv", {"kind": "banned"}, on_limit="stop_oldest", terminate=codes))
    assert (await limiter.list("user")).streams == before
    assert await outcome(limiter.start("user", "tv", terminate=codes)) == "fine", "no code was used up"
    assert (await limiter.list("user")).active == 1


async def test_a_cast_moves_from_phone_to_tv_in_one_step(bench, clock):
    limiter = await bench.open(stream_limit=1)
    phone = await limiter.start("user", "phone")
    clock.move(1)
    tv = await limiter.start("user", "tv", replaces=phone.stream_id)
    assert tv.active == 1
    assert await outcome(limiter.heartbeat("user", phone.stream_id)) == "taken_over"
    other = await limiter.start("other", "phone")
    assert await outcome(limiter.start("user", "pad", replaces=other.stream_id)) == "refused"
    assert await outcome(limiter.start("user", "pad", replaces="made up")) == "refused"
    assert await outcome(limiter.start("user", "pad", replaces=phone.stream_id)) == "refused", "it is gone"
    assert await outcome(limiter.heartbeat("other", other.stream_id)) == "fine"


@pytest.mark.parametrize("how", ["expired", "forgotten"])
async def test_what_was_replaced_does_not_come_back_beside_its_replacement(bench, clock, how):
    limiter = await bench.open(stream_limit=2)
    phone = await limiter.start("user", "phone")
    if how == "expired":
        clock.move(TTL_S)
    else:
        bench.raw.delete(*bench.user_keys())
    tv = await limiter.start("user", "tv", replaces=phone.stream_id)
    assert await outcome(limiter.heartbeat("user", phone.stream_id)) == "taken_over"
    assert [one.stream_id for one in (await limiter.list("user")).streams] == [tv.stream_id]
    assert limiter.counts["taken_over"] == 0, "it did not play any more"
    assert limiter.counts["expired"] == (1 if how == "expired" else 0)


async def test_making_room_ends_as_many_as_it_takes_and_no_more(bench, clock):
    limiter = await bench.open(stream_limit=4)
    begun = []
    for number in range(4):
        begun.append(await limiter.start("user", f"device-{number}"))
        clock.move(1)
    await limiter.set_limit("user", 2)
    assert (await limiter.start("user", "new", on_limit="stop_oldest")).active == 2
    beats = [await outcome(limiter.heartbeat("user", one.stream_id)) for one in begun]
    assert beats == ["taken_over"] * 3 + ["fine"]
    assert limiter.counts["taken_over"] == 3


async def test_devices_are_counted_where_the_settings_say_so(bench, clock):
    limiter = await bench.open(stream_limit=2, count_by="device")
    for device in ("phone", "phone", "tv", "tv", "phone"):
        await limiter.start("user", device)
    listed = await limiter.list("user")
    assert (listed.active, len(listed.streams)) == (2, 5)
    refused = await refusal(limiter.start("user", "pad"))
    assert [one.rule for one in refused.advice] == ["devices"]
    assert (refused.active, len(refused.conflicts)) == (2, 5)
    taken = await limiter.start("user", "pad", on_limit="stop_oldest")
    assert taken.active == 2


# -- throttling --------------------------------------------------------------------------------


async def test_the_minute_is_fixed_and_the_next_one_is_fresh(bench, clock):
    limiter = await bench.open(stream_throttle=3)
    begun = await limiter.start("user", "phone")
    clock.move(59)
    for _ in range(2):
        await limiter.heartbeat("user", begun.stream_id)
    with pytest.raises(StreamThrottled) as throttled:
        await limiter.heartbeat("user", begun.stream_id)
    assert throttled.value.retry_after_s == 1
    clock.move(throttled.value.retry_after_s)
    assert await outcome(limiter.heartbeat("user", begun.stream_id)) == "fine", (
        "what was put off did not count"
    )
    with pytest.raises(StreamThrottled) as throttled:
        await limiter.heartbeat("user", begun.stream_id)
    assert throttled.value.retry_after_s == 59, "the stream's own minute began with its first heartbeat"
    clock.move(60)
    beats = [await outcome(limiter.heartbeat("user", begun.stream_id)) for _ in range(4)]
    assert beats == ["fine"] * 3 + ["throttled"]


async def test_who_floods_a_user_ends_no_stream_of_it(bench, clock):
    limiter = await bench.open(stream_limit=1, stream_throttle=5)
    begun = await limiter.start("user", "phone")
    for _ in range(20):
        for _ in range(6):
            await outcome(limiter.start("user", "flood"))
        assert await outcome(limiter.heartbeat("user", begun.stream_id)) == "throttled"
        clock.move(30)
    assert [one.device_id for one in (await limiter.list("user")).streams] == ["phone"]


# -- numbers and tokens ------------------------------------------------------------------------


async def test_the_counters_add_up_and_the_histogram_sees_each_start(bench, clock):
    limiter = await bench.open(stream_limit=2)
    seen: list[int] = []
    limiter.on_start = seen.append
    first = await limiter.start("user", "a", idempotency_key="key")
    await limiter.start("user", "a", idempotency_key="key")
    clock.move(1)
    second = await limiter.start("user", "b")
    await outcome(limiter.start("user", "c"))
    clock.move(1)
    third = await limiter.start("user", "c", on_limit="stop_oldest")
    await limiter.stop("user", third.stream_id)
    clock.move(TTL_S)
    assert await outcome(limiter.stop("user", second.stream_id)) == "expired"
    assert await outcome(limiter.heartbeat("user", first.stream_id)) == "taken_over"
    assert seen == [1, 2, 2]
    assert +limiter.counts == {"started": 3, "refused": 1, "taken_over": 1, "stopped": 1, "expired": 1}


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
async def test_a_token_says_what_was_answered_and_ends_with_the_stream(bench, clock, algorithm):
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    limiter = await bench.open(token_key=key.decode() if algorithm == "ES256" else "")
    begun = await limiter.start("user", "phone", limit=5)
    assert verified(begun.token or "", await limiter.jwks(), algorithm) == {
        "sub": "user",
        "device": "phone",
        "stream": begun.stream_id,
        "limit": 5,
        "active": 1,
        "iat": 1_800_000_000,
        "exp": 1_800_000_090,
    }
    clock.move(0.001)
    beaten = await limiter.heartbeat("user", begun.stream_id)
    assert verified(beaten.token or "", await limiter.jwks(), algorithm)["exp"] == 1_800_000_091


async def test_who_verifies_no_tokens_gets_none(bench):
    limiter = await bench.open(stream_tokens=False)
    begun = await limiter.start("ann", "tv")
    assert begun.token is None
    assert (await limiter.heartbeat("ann", begun.stream_id)).token is None


# -- every rule against a model ----------------------------------------------------------------


class Rule(NamedTuple):
    policy: str
    max: int
    count: str
    attribute: str | None
    where: dict[str, str]


class Playing(NamedTuple):
    device: str
    attributes: dict[str, str]


class Model:
    """The rules once more, in the plainest words; streams are named by the order of their start."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules
        self.live: dict[int, Playing] = {}

    def violated(self, playing: dict[int, Playing], new: Playing) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for rule in self.rules:
            counted = [n for n, one in playing.items() if self._counts(rule, one, new)]
            if not self._counts(rule, new, new):
                continue
            devices = {playing[n].device for n in counted} | {new.device}
            total = len(devices) if rule.count == "devices" else len(counted) + 1
            if total > rule.max:
                found[rule.policy] = {
                    n for n in counted if rule.count == "streams" or playing[n].device != new.device
                }
        return found

    @staticmethod
    def _counts(rule: Rule, one: Playing, new: Playing) -> bool:
        if any(one.attributes.get(name) != value for name, value in rule.where.items()):
            return False
        if rule.attribute is None:
            return True
        value = one.attributes.get(rule.attribute)
        return value is not None and value == new.attributes.get(rule.attribute)

    def start(self, number: int, new: Playing, gone: set[int], *, stop_oldest: bool) -> dict[str, set[int]]:
        """Start a stream; returns what is violated if it is refused."""
        playing = {n: one for n, one in self.live.items() if n not in gone}
        while stop_oldest and any(found := self.violated(playing, new)):
            in_the_way = next(iter(found.values()))
            if not in_the_way:
                break
            del playing[min(in_the_way)]
        if self.violated(playing, new):
            return self.violated(self.live, new)
        self.live = {**playing, number: new}
        return {}


values = st.sampled_from(["x", "y"])
attributes = st.dictionaries(st.sampled_from(["channel", "kind"]), values, max_size=2)
rules = st.builds(
    Rule,
    policy=st.just(""),
    max=st.integers(0, 3),
    count=st.sampled_from(["streams", "devices"]),
    attribute=st.sampled_from([None, "channel", "kind"]),
    where=st.dictionaries(st.just("kind"), values, max_size=1),
)
starts = st.fixed_dictionaries(
    {
        "new": st.builds(Playing, st.sampled_from(["a", "b", "c"]), attributes),
        "stop_oldest": st.booleans(),
        "terminate": st.sets(st.integers(0, 12), max_size=2),
        "replaces": st.none() | st.integers(0, 12),
    }
)
steps = st.lists(starts | st.tuples(st.sampled_from(["stop", "beat"]), st.integers(0, 12)), max_size=14)


@settings(max_examples=120, deadline=None)
@given(
    limit=st.integers(0, 4),
    count_by=st.sampled_from(["stream", "device"]),
    further=st.lists(rules, max_size=3),
    steps=steps,
)
def test_the_script_decides_as_the_rules_say(limit, count_by, further, steps):
    with pytest.MonkeyPatch.context() as patch:
        be_patient(patch)
        asyncio.run(_against_the_model(MovableClock(patch), limit, count_by, further, steps))


async def _against_the_model(
    clock: MovableClock, limit: int, count_by: str, further: list[Rule], steps: list[Any]
) -> None:
    further = [rule._replace(policy=f"rule-{index}") for index, rule in enumerate(further)]
    user_rule = Rule("user", limit, "devices" if count_by == "device" else "streams", None, {})
    model = Model([user_rule, *further])
    name = f"memory://model-{uuid.uuid4().hex}"
    plain = [{name: value for name, value in rule._asdict().items() if value is not None} for rule in further]
    ids: dict[int, str] = {}
    async with StreamLimiter(
        redis=name, now_ms=clock.now_ms, stream_limit=limit, count_by=count_by, stream_rules=plain
    ) as limiter:
        for number, step in enumerate(steps):
            clock.move(0.001)
            if isinstance(step, tuple):
                what, which = step
                if which in ids:
                    asked = limiter.stop if what == "stop" else limiter.heartbeat
                    found = await outcome(asked("user", ids[which]))
                    assert (found == "fine") == (which in model.live)
                    if what == "stop":
                        model.live.pop(which, None)
            else:
                await _start(limiter, name, model, ids, number, step)
            listed = [one.stream_id for one in (await limiter.list("user")).streams]
            assert listed == [ids[n] for n in sorted(model.live)]
    single._servers_in_process.pop(name.removeprefix("memory://"))


async def _start(
    limiter: StreamLimiter, url: str, model: Model, ids: dict[int, str], number: int, step: dict[str, Any]
) -> None:
    raw = fakeredis.FakeRedis(server=single._servers_in_process[url.removeprefix("memory://")])
    codes = _codes(raw, ids)
    gone = (step["terminate"] | {step["replaces"]}) & model.live.keys()
    expected = model.start(number, step["new"], gone, stop_oldest=step["stop_oldest"])
    starting = limiter.start(
        "user",
        step["new"].device,
        step["new"].attributes,
        on_limit="stop_oldest" if step["stop_oldest"] else "reject",
        terminate=[codes[n] for n in step["terminate"] if n in codes],
        replaces=ids.get(step["replaces"], "nothing"),
    )
    if expected:
        refused = await refusal(starting)
        of_code = {code: n for n, code in codes.items()}
        found = {one.policy: {of_code[code] for code in one.termination_codes} for one in refused.advice}
        assert found == expected
        assert {of_code[one.termination_code] for one in refused.conflicts} == set().union(*expected.values())
    else:
        begun = await starting
        ids[number] = begun.stream_id
        assert begun.active == (await limiter.list("user")).active


def _codes(raw: Any, ids: dict[int, str]) -> dict[int, str]:
    """Return the termination codes of live streams, as no refusal might have shown them yet."""
    found: dict[int, str] = {}
    keys = [key for key in raw.keys("*") if key.endswith(b":streams")]
    fields = raw.hgetall(keys[0]) if keys else {}
    for number, stream_id in ids.items():
        facts = unverified(stream_id)
        stored = fields.get(b"s:" + (facts.key if facts else "").encode())
        if stored:
            found[number] = msgspec.json.decode(stored)["code"]
    return found
