"""`limits` behind aiohttp: its moving window on its asynchronous Redis storage, hit once for each request.

A window counts requests in a time and not what is playing: one that stops early frees nothing. It is what users of rate
limiters bend to this use.
"""

import os
import secrets
from typing import Any

from aiohttp import web
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from mediaflow.bench.peers.serving import serve_streams
from mediaflow.bench.saying import run

STARTS = RateLimitItemPerSecond(3, 90, namespace="starts")
BEATS = RateLimitItemPerSecond(200, 60, namespace="beats")


class Service:
    """The handlers."""

    def __init__(self, limiter: Any) -> None:
        self._limiter = limiter

    async def start(self, request: web.Request) -> web.Response:
        """Begin a stream."""
        user = request.match_info["user"]
        body = await request.json()
        if not await self._limiter.hit(STARTS, user):
            return web.json_response({"limit": STARTS.amount}, status=409)
        answer = {
            "streamId": secrets.token_urlsafe(9),
            "userId": user,
            "deviceId": body["deviceId"],
            "limit": 3,
        }
        return web.json_response(answer, status=201)

    async def beat(self, request: web.Request) -> web.Response:
        """Count a beat."""
        user, stream = request.match_info["user"], request.match_info["stream"]
        if not await self._limiter.hit(BEATS, stream):
            return web.json_response({"limit": BEATS.amount}, status=429)
        return web.json_response({"streamId": stream, "userId": user, "limit": STARTS.amount})


async def _main() -> None:
    storage = RedisStorage(f"async+{os.environ['MEDIAFLOW_REDIS_URL']}", implementation="redispy")
    service = Service(MovingWindowRateLimiter(storage))
    await serve_streams(service.start, service.beat)


if __name__ == "__main__":
    run(_main())
