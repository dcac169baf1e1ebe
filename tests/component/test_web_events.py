"""``/events``: nothing is missed between two connections, and streams end when the program does."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from harness.surfaces import client_of, own_settings, own_store, owner_of, reading_surface, start_call

from mediaflow.store import EventBatch, NamespaceMismatch
from mediaflow.web import events
from mediaflow.web.program import background

WITHIN_S = 10


@asynccontextmanager
async def served(store, settings, **options):
    feed = events.EventFeed(store, **options)
    async with (
        background(feed.run()),
        client_of(reading_surface(store, settings, feed).application()) as client,
    ):
        yield client, feed


@pytest.fixture
async def stage():
    settings = own_settings()
    async with own_store(settings) as store:
        yield store, settings


async def read_event(stream):
    """Return the next event of a stream as a dict, its data decoded; comments are passed over."""
    fields = {}
    async with asyncio.timeout(WITHIN_S):
        while True:
            line = (await stream.content.readline()).decode()
            assert line, "the stream ended"
            name, _, value = line.rstrip("\n").partition(":")
            if line == "\n" and fields:
                fields["data"] = json.loads(fields["data"])
                return fields
            if name:
                fields[name] = value.strip()


async def begun(stream):
    """Wait for the opening comment: from here on nothing is missed."""
    async with asyncio.timeout(WITHIN_S):
        assert (await stream.content.readline()).startswith(b":")
        await stream.content.readline()


async def test_events_arrive_as_they_happen(stage):
    store, settings = stage
    async with served(store, settings) as (client, _), client.get("/events") as stream:
        assert stream.content_type == "text/event-stream"
        await begun(stream)
        await start_call(store, "call-1")
        event = await read_event(stream)
        assert "created" in event["event"]
        assert event["data"]["callId"] == "call-1"
        assert event["data"]["id"] == event["id"]


async def test_a_client_that_comes_back_misses_nothing_and_hears_nothing_twice(stage):
    store, settings = stage
    async with served(store, settings) as (client, _):
        async with client.get("/events") as stream:
            await begun(stream)
            for n in range(3):
                await start_call(store, f"early-{n}")
            seen = [await read_event(stream)]
        for n in range(3):
            await start_call(store, f"late-{n}")
        async with client.get("/events", headers={"Last-Event-ID": seen[0]["id"]}) as stream:
            await begun(stream)
            while len({e["data"]["callId"] for e in seen}) < 6:
                seen.append(await read_event(stream))
    ids = [event["id"] for event in seen]
    assert len(ids) == len(set(ids))


async def test_an_id_that_no_event_bore_is_400(stage):
    store, settings = stage
    async with served(store, settings) as (client, _):
        answer = await client.get("/events", headers={"Last-Event-ID": "yesterday"})
        assert answer.status == 400
        assert "yesterday" in (await answer.json())["detail"]


class _Trimmed:
    """A store whose log has dropped what was asked for."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def events(self, after):
        batch = await self._store.events(after)
        return EventBatch(batch.events, batch.position, reset=True)


async def test_a_client_that_was_away_too_long_is_told_to_read_the_state_anew(stage):
    store, settings = stage
    async with served(_Trimmed(store), settings) as (client, _), client.get("/events") as stream:
        assert (await read_event(stream))["event"] == "reset"


async def test_a_quiet_stream_is_kept_open_by_comments(stage):
    store, settings = stage
    async with (
        served(store, settings, heartbeat_interval_s=0.05) as (client, _),
        client.get("/events") as stream,
    ):
        await begun(stream)
        async with asyncio.timeout(WITHIN_S):
            assert await stream.content.readline() == b": still here\n"


async def test_streams_end_when_the_program_does(stage):
    store, settings = stage
    async with served(store, settings) as (client, feed), client.get("/events") as stream:
        await begun(stream)
        feed.close()
        async with asyncio.timeout(WITHIN_S):
            assert await stream.content.read() == b""


async def test_one_client_too_many_is_503_and_room_comes_back(stage, monkeypatch):
    monkeypatch.setattr(events, "MAX_CLIENTS", 1)
    store, settings = stage
    await owner_of(store, "alpha")
    async with served(store, settings, heartbeat_interval_s=0.02) as (client, _):
        async with client.get("/events") as stream:
            await begun(stream)
            answer = await client.get("/events")
            assert answer.status == 503
            assert "Retry-After" in answer.headers
        async with asyncio.timeout(WITHIN_S):
            while (answer := await client.get("/events")).status == 503:
                await answer.read()
                await asyncio.sleep(0.01)
        assert answer.status == 200
        answer.close()


async def test_a_namespace_that_changed_meanwhile_ends_no_program(stage):
    store, settings = stage
    asked = asyncio.Event()

    class Changed:
        """A store that worked when the stream began, and then finds other constants."""

        def __getattr__(self, name):
            return getattr(store, name)

        async def tail(self):
            if not asked.is_set():
                asked.set()
                return await store.tail()
            raise NamespaceMismatch("other constants")

        async def events(self, after):
            raise NamespaceMismatch("other constants")

    async with (
        served(Changed(), settings, heartbeat_interval_s=0.05) as (client, _),
        client.get("/events") as stream,
    ):
        await begun(stream)
        async with asyncio.timeout(WITHIN_S):
            assert await stream.content.readline() == b": still here\n"
        assert (await client.get("/healthz")).status == 200
