"""Calls inside a FastAPI application: sessions live as long as the application does.

uvicorn --app-dir examples fastapi_app:app
curl -X POST localhost:8000/rooms/7/recording
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response

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


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Join the other instances; on shutdown hand the sessions to them."""
    async with calls:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/rooms/{room}/recording")
async def start(room: int, response: Response) -> dict[str, str]:
    """Start the recording of a room; asked twice, it is still one."""
    call = await calls.start_call(f"room-{room}", {"room": room})
    response.status_code = 201 if call.created else 200
    return {"session": call.session_id, "state": call.state}


@app.delete("/rooms/{room}/recording", status_code=204)
async def stop(room: int) -> None:
    """End the recording of a room."""
    await calls.end_call(f"room-{room}")
