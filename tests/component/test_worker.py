"""An instance behind HTTP: its statuses, and which coroutine it runs."""

import asyncio
import types

import pytest
from harness.surfaces import client_of, own_settings, own_store
from harness.waiting import eventually
from yarl import URL

from mediaflow.limiter import StreamLimiter
from mediaflow.runtime.hooks import NO_HOOKS, Hooks
from mediaflow.runtime.instance import Instance
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.oncall import CallRefused
from mediaflow.runtime.placing import QueueFull
from mediaflow.settings import Settings
from mediaflow.web.events import EventFeed
from mediaflow.worker.app import surface
from mediaflow.worker.handlers import hold, load_app

SLOT = {"Mediaflow-Placement": "slot"}


class Stage:
    def __init__(self, client, instance, store):
        self.client, self.instance, self.store = client, instance, store

    async def post(self, call_id, **options):
        answer = await self.client.post(f"/calls/{call_id}", **options)
        return answer, await answer.json()


@pytest.fixture
async def stage():
    settings = own_settings(slots=2, lease_ttl=3.0, accept_ttl=1.0)
    async with own_store(settings) as store:
        instance = Instance(store, hold, settings, address="127.0.0.1:1")
        async with instance:
            await eventually(lambda: instance.ready, 10)
            face = surface(instance, store, settings, EventFeed(store))
            async with client_of(face.application()) as client:
                yield Stage(client, instance, store)


async def test_a_call_is_made_once_and_then_found(stage):
    answer, told = await stage.post("call-1", json={"room": 7})
    assert answer.status == 201
    assert told["state"] == "active"
    assert told["owner"] == stage.instance.instance_id
    assert told["created"] is True
    assert set(told) == {"callId", "sessionId", "state", "owner", "fence", "created"}
    answer, again = await stage.post("call-1")
    assert (answer.status, again["created"]) == (200, False)
    assert again["sessionId"] == told["sessionId"]


async def test_a_repeated_request_gets_the_first_answer_and_another_body_422(stage):
    key = {"Idempotency-Key": "k1"}
    first, told = await stage.post("call-1", headers=key, data=b'{"a":1,"b":2}')
    second, repeated = await stage.post("call-1", headers=key, data=b'{ "b": 2, "a": 1 }')
    assert (first.status, second.status) == (201, 201)
    assert repeated["sessionId"] == told["sessionId"]
    third, problem = await stage.post("call-1", headers=key, data=b'{"a":2}')
    assert third.status == 422
    assert third.content_type == "application/problem+json"
    assert "Idempotency-Key" in problem["detail"]


async def test_all_slots_taken_queues_or_refuses_as_the_asker_wants(stage):
    for n in range(2):
        assert (await stage.post(f"call-{n}", headers=SLOT))[0].status == 201
    answer, told = await stage.post("call-2", headers=SLOT)
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert "free slot" in told["detail"]
    answer, told = await stage.post("call-2")
    assert (answer.status, told["state"], told["owner"]) == (201, "pending", None)
    assert stage.instance.used == 2
    text = await (await stage.client.get("/metrics")).text()
    assert 'mediaflow_sessions{state="running"} 2.0' in text
    assert "mediaflow_free_slots 0.0" in text
    assert "mediaflow_slots 2.0" in text


async def test_an_ended_call_gives_its_slot_back(stage):
    await stage.post("call-1")
    assert (await stage.client.delete("/calls/call-1")).status == 204
    await eventually(lambda: stage.instance.used == 0, 10)
    shown = await (await stage.client.get("/calls/call-1")).json()
    assert shown["state"] == "cancelled"


async def test_a_draining_instance_takes_nothing_new_and_still_answers_reads(stage):
    await stage.post("call-1")
    await stage.instance.drain()
    answer, told = await stage.post("call-2")
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert "no new calls" in told["detail"]
    assert (await stage.client.get("/readyz")).status == 503
    assert (await stage.client.get("/healthz")).status == 200
    shown = await (await stage.client.get("/calls/call-1")).json()
    assert shown["state"] == "pending"


async def test_an_instance_that_is_told_to_drains_leaves_and_says_so_each_time(stage):
    await stage.post("call-1")
    path = f"/instances/{stage.instance.instance_id}/drain"
    first = await stage.client.post(path)
    told = await first.json()
    assert first.status == 202
    assert told["instanceId"] == stage.instance.instance_id
    assert (told["state"], told["slots"], told["used"], told["address"]) == ("draining", 2, 1, "127.0.0.1:1")
    assert (await stage.post("call-2"))[0].status == 503
    assert "HTTP" in await stage.instance.wait_leaving()
    await stage.instance.wait_stopped()
    assert (await stage.client.post(path)).status == 202
    assert await stage.store.instances() == []
    shown = await (await stage.client.get("/calls/call-1")).json()
    assert shown["state"] == "pending"


@pytest.mark.parametrize("name", ["another", "a%2Fb", "%00", "x" * 65])
async def test_an_instance_is_not_drained_under_another_name(stage, name):
    answer = await stage.client.post(URL(f"/instances/{name}/drain", encoded=True))
    assert answer.status == 404
    assert "GET /instances" in (await answer.json())["detail"]
    assert stage.instance.state == "ready"


async def test_an_unknown_placement_is_400(stage):
    answer, told = await stage.post("call-1", headers={"Mediaflow-Placement": "anywhere"})
    assert answer.status == 400
    assert "anywhere" in told["detail"]


async def test_a_full_queue_is_503():
    class Full:
        slots = used = 1
        ready = True
        meter = InstanceMeter()
        state, problem, instance_id = "ready", "", "full"

        def sessions(self):
            return {"running": 1}

        async def place(self, request):
            raise QueueFull("10 sessions are pending already (max_pending): try again later")

    settings = own_settings()
    async with (
        own_store(settings) as store,
        client_of(surface(Full(), store, settings, EventFeed(store)).application()) as client,
    ):
        answer = await client.post("/calls/x")
        assert answer.status == 503
        assert "Retry-After" in answer.headers
        assert "max_pending" in (await answer.json())["detail"]


async def _coroutine(session):
    await asyncio.sleep(0)


class _App:
    def __init__(self, handler):
        self.handler = handler
        self.settings_flags = {"slots": 7}


@pytest.fixture
def module(monkeypatch):
    found = types.ModuleType("app_under_test")
    found.record = _coroutine
    found.app = _App(_coroutine)
    found.empty = _App(None)
    found.plain = lambda session: None
    monkeypatch.setitem(__import__("sys").modules, "app_under_test", found)


def test_an_app_is_a_coroutine_function_or_a_media_app(module):
    assert load_app("app_under_test:record") == (_coroutine, {}, NO_HOOKS, "app_under_test:record")
    assert load_app("app_under_test:app") == (_coroutine, {"slots": 7}, NO_HOOKS, "app_under_test:app")


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("nocolon", "module:attr"),
        ("no_such_module_here:app", "no_such_module_here"),
        ("app_under_test:nothing", "nothing"),
        ("app_under_test:plain", "coroutine function"),
        ("app_under_test:empty", "session"),
    ],
)
def test_what_is_no_app_is_refused_with_the_reason(module, reference, told):
    with pytest.raises(ValueError, match="app '") as refused:
        load_app(reference)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_app_whose_module_exits_is_refused_and_does_not_end_the_program(tmp_path, monkeypatch):
    (tmp_path / "app_that_exits.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="importing 'app_that_exits' failed: SystemExit"):
        load_app("app_that_exits:app")


@pytest.mark.parametrize(("final", "status"), [(False, 503), (True, 403)])
async def test_a_call_that_the_app_does_not_want_is_refused_with_its_reason(final, status):
    async def refuse(_call):
        raise CallRefused("this tenant is closed", final=final)

    settings = own_settings()
    async with (
        own_store(settings) as store,
        Instance(store, hold, settings, hooks=Hooks(on_call=refuse)) as instance,
    ):
        await eventually(lambda: instance.ready, 10)
        face = surface(instance, store, settings, EventFeed(store))
        async with client_of(face.application()) as client:
            answer = await client.post("/calls/call-1")
            told = await answer.json()
    assert (answer.status, told["detail"]) == (status, "this tenant is closed")
    assert told["type"] == "urn:mediaflow:problem:call-refused"
    assert ("Retry-After" in answer.headers) == (status == 503)


async def test_one_call_too_many_of_an_account_is_a_409_that_the_document_describes(stage):
    document = await (await stage.client.get("/openapi.json")).json()
    described = document["paths"]["/calls/{callId}"]["post"]
    assert "Mediaflow-Account" in [one["name"] for one in described["parameters"]]
    schema = described["responses"]["409"]["content"]["application/problem+json"]["schema"]
    fields = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["required"]
    limiter = StreamLimiter(Settings(), store=stage.store)
    await limiter.set_limit("anna", 1)
    headers = {"Mediaflow-Account": "anna"}
    assert (await stage.post("call-1", headers=headers))[0].status == 201
    answer, told = await stage.post("call-2", headers=headers)
    assert (answer.status, answer.content_type) == (409, "application/problem+json")
    assert set(fields) <= set(told)
    assert told["conflicts"][0]["deviceId"] == "call:call-1"
