"""What the balancer serves for its console: a page and its files, and nothing else without the token."""

import re
from contextlib import asynccontextmanager

import pytest
from harness.surfaces import client_of, own_settings, own_store

from mediaflow import console
from mediaflow.core.policy import Rule
from mediaflow.limiter import StreamLimiter
from mediaflow.web.surface import Surface

TOKEN = {"Authorization": "Bearer secret"}
RULES = (Rule(policy="live", max=1, where={"kind": "live"}),)


@asynccontextmanager
async def served(**about):
    settings = own_settings(api_token="secret", stream_limit=3, stream_rules=RULES, **about)
    async with own_store(settings) as store:
        face = Surface("loadbalancer", settings, lambda: "")
        console.add_routes(face, store)
        async with client_of(face.application()) as client, StreamLimiter(settings, store=store) as limiter:
            yield client, limiter


@pytest.fixture
async def stage():
    async with served() as found:
        yield found


async def test_the_page_and_all_that_it_loads_are_served_without_a_token(stage):
    client, _ = stage
    wanted, seen = {"/console"}, {}
    while wanted:
        path = wanted.pop()
        answer = await client.get(path)
        assert answer.status == 200, path
        assert "'unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        seen[path] = text = await answer.text()
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), f"{path} names another origin"
        found = re.findall(r'(?:src|href)="(console/[\w.]+)"', text)
        found += [f"console/{name}" for name in re.findall(r'from "\./([\w.]+)"', text)]
        wanted |= {f"/{name}" for name in found} - seen.keys()
    assert {"/console/main.mjs", "/console/console.css", "/console/feed.mjs"} <= seen.keys()
    assert " style=" not in seen["/console"], "the policy would not let it through"


@pytest.mark.parametrize(
    "path",
    ["page.py", "__init__.py", "", "index.html", "..", "%2e%2e", "%2e%2e%2fpage.py", "..%2f..%2fsettings.py"],
)
async def test_nothing_but_the_files_of_the_page_lies_below_it(stage, path):
    client, _ = stage
    answer = await client.get(f"/console/{path}")
    assert answer.status in {404, 401}


async def test_no_request_of_the_api_is_open_because_of_where_it_lies(stage):
    client, _ = stage
    for path in ("/users/ann/streams", "/console/../users/ann/streams", "/console/%2e%2e/users/ann/streams"):
        async with client.get(path) as answer:
            assert answer.status in {401, 404}
    assert (await client.post("/console")).status == 405


async def test_a_file_that_did_not_change_is_not_sent_again(stage):
    client, _ = stage
    first = await client.get("/console/main.mjs")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await client.get("/console/main.mjs", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")


async def test_the_streams_of_a_user_are_shown_with_the_rules_that_are_full(stage):
    client, limiter = stage
    await limiter.start("ann/x", "tv", {"kind": "live"})
    await limiter.start("ann/x", "phone", {"kind": "film"})
    answer = await client.get("/users/ann%2Fx/streams", headers=TOKEN)
    assert answer.status == 200
    found = await answer.json()
    assert (found["userId"], found["limit"], found["active"]) == ("ann/x", 3, 2)
    assert [one["deviceId"] for one in found["streams"]] == ["tv", "phone"]
    assert all(80_000 < one["remainingMs"] <= 90_000 for one in found["streams"])
    assert "streamId" not in found["streams"][0], "whoever has it can stop the stream"
    shown = [(one["policy"], one["taken"], one["threshold"], one["full"]) for one in found["rules"]]
    assert shown == [("user", 2, 3, False), ("live", 1, 1, True)]
    assert found["rules"][1]["streams"] == [0]


async def test_a_user_with_a_limit_of_their_own_is_shown_with_it(stage):
    client, limiter = stage
    await limiter.set_limit("ann", 0)
    found = await (await client.get("/users/ann/streams", headers=TOKEN)).json()
    assert (found["limit"], found["active"], found["rules"][0]["full"]) == (0, 0, True)


async def test_a_user_id_that_cannot_be_one_is_refused(stage):
    client, _ = stage
    for name in ("", "a" * 257, "a%0Ab"):
        answer = await client.get(f"/users/{name}/streams", headers=TOKEN)
        assert answer.status == 400, name
