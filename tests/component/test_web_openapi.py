"""The OpenAPI document tells of every route that is served, and of nothing else."""

import json
import re

import pytest
from harness.surfaces import client_of, own_settings, own_store, reading_surface

from mediaflow.web import placing
from mediaflow.web.events import EventFeed


async def _place(request):
    raise NotImplementedError


@pytest.fixture
async def described():
    settings = own_settings()
    async with own_store(settings) as store:
        face = reading_surface(store, settings, EventFeed(store))
        face.add(placing.placing_route(_place))
        app = face.application()
        async with client_of(app) as client:
            yield app, await (await client.get("/openapi.json")).json()


def _served(app):
    return {
        (route.resource.canonical.replace("{call_id}", "{callId}"), route.method.lower())
        for route in app.router.routes()
        if route.method != "HEAD"
    }


async def test_every_route_that_is_served_is_described(described):
    app, document = described
    told = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert told == _served(app)
    assert document["openapi"].startswith("3.1.")
    assert ("/calls/{callId}", "post") in told


async def test_every_reference_leads_somewhere(described):
    _, document = described
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


async def test_messages_are_described_as_they_are_written(described):
    _, document = described
    schemas = document["components"]["schemas"]
    assert set(schemas["CallAnswer"]["required"]) == {
        "callId",
        "sessionId",
        "state",
        "owner",
        "fence",
        "created",
    }
    assert "heartbeatAgeMs" in schemas["InstanceView"]["properties"]


async def test_each_operation_names_its_path_parameters_and_its_answers(described):
    _, document = described
    for path, methods in document["paths"].items():
        wanted = set(re.findall(r"{(\w+)}", path))
        for operation in methods.values():
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == wanted
            assert operation["summary"]
            assert operation["responses"]
    posted = document["paths"]["/calls/{callId}"]["post"]["responses"]
    assert {"200", "201", "400", "401", "413", "422", "503"} <= set(posted)


async def test_the_docs_page_loads_nothing_from_elsewhere():
    settings = own_settings()
    async with (
        own_store(settings) as store,
        client_of(reading_surface(store, settings, EventFeed(store)).application()) as client,
    ):
        answer = await client.get("/docs")
        page = await answer.text()
    assert answer.content_type == "text/html"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert not re.findall(r"https?://|<link|src=|@import", page)
    assert "prefers-color-scheme" in page
