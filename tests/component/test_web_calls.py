"""What balancer and instance answer alike: calls, histories, instances, and every error as a problem."""

import pytest
from aiohttp import web
from harness.surfaces import client_of, own_settings, own_store, owner_of, reading_surface, start_call

from mediaflow.store import StoreUnavailable
from mediaflow.web.events import EventFeed
from mediaflow.web.surface import Route


@pytest.fixture
async def store():
    settings = own_settings()
    async with own_store(settings) as opened:
        opened.settings_of_test = settings
        yield opened


@pytest.fixture
async def client(store):
    face = reading_surface(store, store.settings_of_test, EventFeed(store))
    async with client_of(face.application()) as opened:
        yield opened


async def refused(answer, status):
    assert answer.status == status
    assert answer.content_type == "application/problem+json"
    told = await answer.json()
    assert told["status"] == status
    assert told["title"]
    return told["detail"]


async def test_a_call_is_shown_with_its_sessions(store, client):
    owner = await owner_of(store, "alpha")
    made = await start_call(store, "call-1", owner)
    answer = await client.get("/calls/call-1")
    assert answer.status == 200
    shown = await answer.json()
    assert shown["callId"] == "call-1"
    assert shown["state"] == "active"
    [session] = shown["sessions"]
    assert set(session) == {
        "sessionId",
        "state",
        "owner",
        "fence",
        "attempt",
        "leaseRemainingMs",
        "details",
        "createdAt",
        "endReason",
    }
    assert session["sessionId"] == made.session_id
    assert session["owner"] == "alpha"
    assert session["fence"] == made.fence
    assert session["details"] == {}
    assert session["endReason"] is None
    assert 0 < session["leaseRemainingMs"] <= 10_000
    assert session["createdAt"].endswith("Z")


async def test_a_pending_call_has_no_owner(store, client):
    await start_call(store, "waiting")
    shown = await (await client.get("/calls/waiting")).json()
    assert shown["state"] == "pending"
    assert shown["sessions"][0]["owner"] is None


async def test_an_unknown_call_is_a_404_that_names_it(client):
    for answer in (
        await client.get("/calls/nobody"),
        await client.delete("/calls/nobody"),
        await client.get("/calls/nobody/history"),
    ):
        assert "nobody" in await refused(answer, 404)


@pytest.mark.parametrize(
    "path", ["a%20b", "a%2Fb", "%2E%2E", "a%00b", "%FF", "x" * 129, "a%252Eb", "caf%C3%A9"]
)
async def test_an_illegal_call_id_is_a_400_that_says_what_is_legal(client, path):
    from yarl import URL

    answer = await client.get(URL(f"/calls/{path}", encoded=True))
    assert "A-Z" in await refused(answer, 400)


async def test_a_call_id_is_percent_decoded_once(store, client):
    from yarl import URL

    await start_call(store, "a+b@c:d~e")
    answer = await client.get(URL("/calls/a%2Bb%40c%3Ad%7Ee", encoded=True))
    assert (await answer.json())["callId"] == "a+b@c:d~e"


async def test_ending_a_call_twice_is_204_both_times(store, client):
    await start_call(store, "call-1")
    for _ in range(2):
        answer = await client.delete("/calls/call-1")
        assert answer.status == 204
        assert await answer.read() == b""
    assert (await (await client.get("/calls/call-1")).json())["state"] == "cancelled"


async def test_calls_are_listed_page_by_page_each_once(store, client):
    wanted = {f"call-{n}" for n in range(25)}
    for call_id in wanted:
        await start_call(store, call_id)
    seen, cursor = [], ""
    for _ in range(200):
        answer = await client.get("/calls", params={"limit": "4", "cursor": cursor})
        page = await answer.json()
        seen += [call["callId"] for call in page["calls"]]
        if page["cursor"] is None:
            break
        cursor = page["cursor"]
    assert sorted(seen) == sorted(wanted)


async def test_calls_are_listed_by_state(store, client):
    await start_call(store, "running", await owner_of(store, "alpha"))
    await start_call(store, "waiting")
    page = await (await client.get("/calls?state=pending")).json()
    assert [call["callId"] for call in page["calls"]] == ["waiting"]


@pytest.mark.parametrize(
    "query",
    ["state=sleeping", "limit=0", "limit=1001", "limit=ten", "limit=-1", "limit=9999999999", "cursor=!!"],
)
async def test_a_bad_query_is_a_400_that_repeats_the_value(client, query):
    name, _, value = query.partition("=")
    detail = await refused(await client.get(f"/calls?{query}"), 400)
    assert name in detail
    assert detail.count(f"'{value}'") == 1


async def test_the_history_of_a_call_is_told_in_order(store, client):
    await start_call(store, "call-1", await owner_of(store, "alpha"))
    await store.cancel("call-1", "test")
    told = (await (await client.get("/calls/call-1/history")).json())["events"]
    assert told
    assert {"id", "at", "event", "sessionId", "instanceId", "fence", "reason"} <= set(told[0])
    assert "created" in told[0]["event"]
    assert "cancelled" in told[-1]["event"]
    assert [event["id"] for event in told] == [event["id"] for event in sorted(told, key=lambda e: e["at"])]


async def test_instances_are_listed_by_id_with_the_age_of_their_heartbeat(store, client):
    await owner_of(store, "beta", address="", slots=3, used=1)
    await owner_of(store, "alpha", address="10.0.0.5:8081")
    listed = (await (await client.get("/instances")).json())["instances"]
    assert [instance["instanceId"] for instance in listed] == ["alpha", "beta"]
    assert listed[0]["address"] == "10.0.0.5:8081"
    assert listed[1]["address"] is None
    assert (listed[1]["slots"], listed[1]["used"], listed[1]["state"]) == (3, 1, "ready")
    assert listed[1]["heartbeatAgeMs"] >= 0


async def test_unknown_paths_and_methods_are_problems_too(client):
    assert "/docs" in await refused(await client.get("/nothing"), 404)
    answer = await client.put("/calls/call-1")
    assert "DELETE" in answer.headers["Allow"]
    assert "PUT" in await refused(answer, 405)


class _Away:
    async def describe(self, call_id):
        raise StoreUnavailable("Redis did not answer")

    async def tail(self):
        raise StoreUnavailable("Redis did not answer")


async def test_redis_away_is_a_503_that_says_when_to_come_again():
    settings = own_settings()
    face = reading_surface(_Away(), settings, EventFeed(_Away()))
    async with client_of(face.application()) as client:
        for path in ("/calls/call-1", "/events"):
            answer = await client.get(path)
            assert answer.headers["Retry-After"] == "1"
            assert "Redis" in await refused(answer, 503)


async def test_an_unexpected_error_is_a_500_that_gives_nothing_away(store):
    async def broken(_: web.Request):
        raise RuntimeError("secret of the house")

    face = reading_surface(store, store.settings_of_test, EventFeed(store))
    face.add(Route(method="GET", path="/broken", handler=broken, summary="", answers={}))
    async with client_of(face.application()) as client:
        answer = await client.get("/broken")
        text = await answer.text()
        await refused(answer, 500)
        assert "secret" not in text
        assert "Traceback" not in text


async def test_not_ready_is_a_503_with_the_reason_and_health_stays_good(store):
    face = reading_surface(store, store.settings_of_test, EventFeed(store), lambda: "Redis cannot be reached")
    async with client_of(face.application()) as client:
        answer = await client.get("/readyz")
        assert "Retry-After" in answer.headers
        assert "Redis" in await refused(answer, 503)
        assert (await client.get("/healthz")).status == 200


async def test_metrics_name_routes_and_never_calls(store, client):
    await client.get("/calls/very-private-name")
    text = await (await client.get("/metrics")).text()
    assert 'route="/calls/{call_id}"' in text
    assert 'status="404"' in text
    assert "very-private-name" not in text
    assert "mediaflow_ready 1.0" in text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "http://[nonsense"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_without_a_token_a_page_of_another_origin_ends_no_call(store, client, headers):
    await start_call(store, "call-1", await owner_of(store, "alpha"))
    detail = await refused(await client.delete("/calls/call-1", headers=headers), 403)
    assert "another origin" in detail
    assert "MEDIAFLOW_API_TOKEN" in detail
    shown = await client.get("/calls/call-1", headers=headers)
    assert (await shown.json())["state"] == "active"


@pytest.mark.parametrize("site", [None, "same-origin"])
async def test_a_page_of_the_programs_own_origin_ends_a_call(store, client, site):
    await start_call(store, "call-1", await owner_of(store, "alpha"))
    headers = {"Origin": str(client.make_url("/").origin())}
    if site:  # behind a proxy that changes Host
        headers = {"Origin": "https://console.example", "Sec-Fetch-Site": site}
    assert (await client.delete("/calls/call-1", headers=headers)).status == 204


OPEN = ("/healthz", "/readyz", "/docs")
CLOSED = ("/metrics", "/openapi.json", "/calls", "/calls/x", "/instances", "/events", "/nothing")


async def test_with_a_token_set_only_health_and_docs_are_open():
    settings = own_settings(api_token="s3cret-ü")
    async with own_store(settings) as store:
        face = reading_surface(store, settings, EventFeed(store))
        async with client_of(face.application()) as client:
            for path in OPEN:
                assert (await client.get(path)).status == 200, path
            for path in CLOSED:
                for headers in (
                    {},
                    {"Authorization": "Bearer wrong"},
                    {"Authorization": "Basic s3cret-ü"},
                    {"Authorization": "Bearer"},
                ):
                    answer = await client.get(path, headers=headers)
                    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
                    assert "MEDIAFLOW_API_TOKEN" in await refused(answer, 401)
            right = {"Authorization": "Bearer s3cret-ü"}
            assert (await client.get("/calls", headers=right)).status == 200
            assert (await client.get("/metrics", headers=right)).status == 200
