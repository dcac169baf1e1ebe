"""Serves an aiohttp application on a free loopback port, with a ready line, as our programs do."""

import asyncio
import sys

from aiohttp import web


async def serve(application: web.Application) -> None:
    """Serve until the process is killed."""
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"ready bare http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()
