"""Calls inside an aiohttp application: sessions live as long as the application does.

python examples/aiohttp_app.py
curl -X POST localhost:8000/rooms/7/recording
"""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

from mediaflow import MediaApp, Session

calls = MediaApp(slots=10, redis=os.environ.get("REDIS_URL", "redis://localhost:6379/0"))


@calls.session
async def record(session: Session) -> None:
    """Stand for your recorder."""
    state = session.resume or {"seconds": 0}
    while True:
        await asyncio.sleep(1)
        state["seconds"] += 1
        await session.checkpoint(state)


async def mediaflow_context(_: web.Application) -> AsyncIterator[None]:
    """Join the other instances; on shutdown hand the sessions to them."""
    async with calls:
        yield


async def start(request: web.Request) -> web.Response:
    """Start the recording of a room; asked twice, it is still one."""
    room = request.match_info["room"]
    call = await calls.start_call(f"room-{room}", {"room": room})
    return web.json_response(
        {"session": call.session_id, "state": call.state}, status=201 if call.created else 200
    )


async def stop(request: web.Request) -> web.Response:
    """End the recording of a room."""
    await calls.end_call(f"room-{request.match_info['room']}")
    return web.Response(status=204)


def make_app() -> web.Application:
    """Return the application."""
    app = web.Application()
    app.cleanup_ctx.append(mediaflow_context)
    app.router.add_post("/rooms/{room:[0-9]+}/recording", start)
    app.router.add_delete("/rooms/{room:[0-9]+}/recording", stop)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="localhost", port=int(os.environ.get("PORT", "8000")))
