"""Ten thousand sessions on one page: what it costs is counted, not timed."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime

import pytest
from aiohttp import web
from harness.desk import SOON_MS, Desk, serving
from harness.surfaces import own_settings
from harness.waiting import eventually

from mediaflow import console
from mediaflow.web.surface import Surface

with contextlib.suppress(ImportError):  # the fixture chromium says so
    from playwright.async_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

INSTANCES, SLOTS, MOVES = 20, 500, 20_000
SESSIONS = INSTANCES * SLOTS


def crowd_app(moved: asyncio.Event):
    """Stand in for a balancer of ten thousand sessions, all of which move twice as fast as it can tell."""

    async def instances(_):
        found = [
            {"instanceId": f"worker-{number}", "address": f"10.0.0.{number}:8081", "slots": SLOTS, "used": SLOTS,
             "state": "ready", "heartbeatAgeMs": 200}
            for number in range(INSTANCES)
        ]  # fmt: skip
        return web.json_response({"instances": found, "cursor": None})

    async def calls(request):
        first = int(request.query["cursor"] or 0)
        if request.query["state"] == "pending":
            return web.json_response({"calls": [], "cursor": None})
        last = first + 1000
        found = [
            {"callId": f"call-{number}", "state": "active", "sessions": [
                {"sessionId": f"s-{number}", "state": "active", "owner": f"worker-{number % INSTANCES}", "fence": 1,
                 "attempt": 1, "leaseRemainingMs": 9000}]}
            for number in range(first, last)
        ]  # fmt: skip
        return web.json_response({"calls": found, "cursor": str(last) if last < SESSIONS else None})

    async def events(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await moved.wait()
        for first in range(0, MOVES, 100):
            await response.write("".join(map(_move, range(first, first + 100))).encode())
        await asyncio.Event().wait()
        return response

    async def metrics(_):
        return web.Response(text="")

    face = Surface("loadbalancer", own_settings(), lambda: "")
    console.add_routes(face, None)
    app = face.application()
    for path, handler in (
        ("/instances", instances),
        ("/calls", calls),
        ("/events", events),
        ("/metrics", metrics),
    ):
        app.router.add_get(path, handler)
    return app


def _move(number: int) -> str:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    session = number % SESSIONS
    body = {
        "id": f"{number}-0-0",
        "at": at,
        "event": "session.takeover",
        "callId": f"call-{session}",
        "sessionId": f"s-{session}",
        "instanceId": f"worker-{(session + 1 + number // SESSIONS) % INSTANCES}",
        "fence": number + 2,
        "reason": "takeover",
    }
    return f"id: {number}-0-0\nevent: session.takeover\ndata: {json.dumps(body)}\n\n"


async def test_ten_thousand_sessions_cost_frames_and_not_nodes(desk: Desk) -> None:
    moved = asyncio.Event()
    async with serving(crowd_app(moved)) as url:
        await desk.open(url)
        await expect(desk.page.locator("#f-used")).to_have_text("10,000", timeout=SOON_MS)
        nodes = await desk.page.evaluate("document.querySelectorAll('*').length")
        assert nodes < 700, "a session is a square on a canvas, not a node"
        moved.set()
        work = await eventually(
            lambda: desk.page.evaluate('import("./console/paint.mjs").then(({work}) => ({...work}))'),
            30,
            until=lambda found: found["events"] == MOVES,
        )
        assert work["frames"] < MOVES / 50, "events are painted together, not each for itself"
        assert work["paints"] <= 3 * work["frames"], "and each part of the page once a frame"
        await expect(desk.page.locator("#f-used")).to_have_text("10,000")
        await desk.shot("crowd")
        assert await desk.page.evaluate("document.querySelectorAll('*').length") < nodes + 600
