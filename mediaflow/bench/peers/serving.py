"""Serves an aiohttp application on a free loopback port, with a ready line, as our programs do."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(application: web.Application) -> None:
    """Serve until the process is killed."""
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    sys.stdout.write(f"ready bare http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def serve_streams(start: Handler, beat: Handler) -> None:
    """Serve the two requests of a stream service that are measured, until the process is killed."""
    app = web.Application()
    app.router.add_post("/v1/users/{user}/streams", start)
    app.router.add_put("/v1/users/{user}/streams/{stream}", beat)
    await serve(app)
