"""Ids, keys and metadata of any kind: what is accepted comes back exactly, and what is refused changes nothing."""

import asyncio
import json
import math
import re
import string
import uuid
from urllib.parse import quote

import aiohttp
import pytest
from harness.limiters import be_patient
from harness.waiting import eventually
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from yarl import URL

from mediaflow import MediaApp, StreamLimiter
from mediaflow.core.names import IllegalName
from mediaflow.settings import SettingsError

often = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[
        Phase.explicit,
        Phase.generate,
    ],  # what fails waits for a deadline: to shrink it would take an hour
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

LEGAL = string.ascii_letters + string.digits + "._~:@+-"
LEGAL_CALL_ID = re.compile(r"[A-Za-z0-9._~:@+-]{1,128}")
scalars = st.characters(exclude_categories=["Cs"])
texts = st.text(alphabet=scalars, max_size=140)
call_ids = st.one_of(st.text(alphabet=LEGAL, min_size=1, max_size=130), texts)
keys = st.one_of(st.text(alphabet=[chr(n) for n in range(33, 127)], min_size=1, max_size=260), texts)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=scalars, max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(alphabet=scalars, max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
metadata = st.dictionaries(st.text(alphabet=scalars, max_size=10), json_values, max_size=5)


class Stage:
    """An embedded app whose handler keeps what it is given, and the same over HTTP."""

    def __init__(self, app: MediaApp, seen: dict[int, tuple[str, object]]) -> None:
        self.app, self.seen = app, seen

    async def runs(self, fence: int) -> tuple[str, object]:
        """Return the call id and the metadata that the handler was given under a fence."""
        await eventually(lambda: fence in self.seen, 10)
        return self.seen[fence]


@pytest.fixture
async def stage():
    seen: dict[int, tuple[str, object]] = {}
    app = MediaApp(redis=f"memory://{uuid.uuid4().hex}", slots=100_000, watchdog=False)

    @app.session
    async def keep(session):
        seen[session.fence] = (session.call_id, session.metadata)
        await asyncio.Event().wait()

    async with app:
        yield Stage(app, seen)


def same(one: object, other: object) -> bool:
    """Whether two JSON values are the same, to the type and to the sign of a zero; objects have no order."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@often
@given(given_=metadata)
@example(given_={"": {"": [0.1, -0.0, 5e-324, 1.7976931348623157e308, 2**64 - 1, -(2**63)]}})
@example(given_={"\x00": "\x00\x7f\u2028\U0001f600", "__proto__": {"constructor": None}})
async def test_metadata_reach_the_handler_exactly(stage, given_):
    answer = await stage.app.start_call(f"call-{uuid.uuid4().hex}", given_)
    _, found = await stage.runs(answer.fence)
    assert same(found, given_), (found, given_)


@often
@given(call_id=call_ids)
@example(call_id=".")
@example(call_id="..")
@example(call_id="a\n")
@example(call_id="a" * 128)
@example(call_id="a" * 129)
@example(call_id="٣")
async def test_a_call_id_is_kept_exactly_or_refused_without_a_trace(stage, call_id):
    legal = LEGAL_CALL_ID.fullmatch(call_id) is not None and call_id not in (".", "..")
    used = stage.app.instance.used
    if not legal:
        with pytest.raises(IllegalName):
            await stage.app.start_call(call_id)
        assert stage.app.instance.used == used
        return
    answer = await stage.app.start_call(call_id)
    assert answer.call_id == call_id
    assert (await stage.runs(answer.fence))[0] == call_id
    assert await stage.app.end_call(call_id)


@often
@given(key=keys, other=keys)
async def test_an_idempotency_key_finds_its_own_answer_and_no_other(stage, key, other):
    call_id = f"call-{uuid.uuid4().hex}"
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        with pytest.raises(IllegalName):
            await stage.app.start_call(call_id, idempotency_key=key)
        assert not await stage.app.end_call(call_id)
        return
    first = await stage.app.start_call(call_id, {"a": 1}, idempotency_key=key)
    assert await stage.app.start_call(call_id, {"a": 1}, idempotency_key=key) == first
    if other != key and re.fullmatch(r"[\x21-\x7e]{1,255}", other):
        assert not (await stage.app.start_call(call_id, {"b": 1}, idempotency_key=other)).created


@often
@given(call_id=call_ids, given_=metadata)
async def test_over_http_as_well(stage_over_http, call_id, given_):
    address, seen = stage_over_http
    legal = LEGAL_CALL_ID.fullmatch(call_id) is not None and call_id not in (".", "..")
    url = URL(f"http://{address}/calls/{quote(call_id, safe='')}", encoded=True)
    async with aiohttp.ClientSession() as client, client.post(url, data=json.dumps(given_)) as answer:
        told = await answer.json(content_type=None)
        assert answer.status in ((200, 201) if legal else (400, 404, 405)), (call_id, told)
        if answer.status == 201:
            await eventually(lambda: told["fence"] in seen, 10)
            assert seen[told["fence"]][0] == told["callId"] == call_id
            assert same(seen[told["fence"]][1], given_)


@pytest.fixture
async def stage_over_http(monkeypatch):
    from mediaflow.settings import Settings
    from mediaflow.web.hosting import hosted
    from mediaflow.worker import hosting

    seen: dict[int, tuple[str, object]] = {}

    async def keep(session):
        seen[session.fence] = (session.call_id, session.metadata)
        await asyncio.Event().wait()

    given_ = Settings(redis_url=f"memory://{uuid.uuid4().hex}", port=0, slots=100_000)
    async with hosted("worker", given_, hosting(keep)) as found:
        await eventually(lambda: not found.program.problem(), 10)
        yield found.bound.address, seen


@often
@given(instance_id=st.one_of(st.text(alphabet=LEGAL, min_size=1, max_size=66), texts))
def test_an_instance_id_is_kept_exactly_or_refused(instance_id):
    if instance_id == "" or re.fullmatch(r"[A-Za-z0-9._~:@+-]{1,64}", instance_id):
        assert MediaApp(redis="memory://x", instance_id=instance_id).settings.instance_id == instance_id
    else:
        with pytest.raises(SettingsError):
            MediaApp(redis="memory://x", instance_id=instance_id)


@pytest.fixture
async def limiter(monkeypatch):
    be_patient(monkeypatch)
    async with StreamLimiter(
        redis=f"memory://{uuid.uuid4().hex}", stream_limit=10_000, stream_throttle=1_000_000
    ) as made:
        yield made


@often
@given(user_id=texts, device_id=texts, given_=metadata)
async def test_users_devices_and_streams_metadata_come_back_exactly_or_change_nothing(
    limiter, user_id, device_id, given_
):
    mine = f"{uuid.uuid4().hex[:4]}{user_id}" if user_id else ""  # examples share the limiter
    try:
        started = await limiter.start(mine, device_id, given_)
    except ValueError as error:
        refused = str(error)
    else:
        assert (started.user_id, started.device_id) == (mine, device_id)
        [stream] = (await limiter.list(mine)).streams
        assert stream.device_id == device_id
        assert same(dict(stream.metadata), given_), (stream.metadata, given_)
        return
    assert refused
    assert len(refused) < 500
    try:
        assert not (await limiter.list(mine)).streams
    except ValueError:
        return  # it is the user who cannot be
