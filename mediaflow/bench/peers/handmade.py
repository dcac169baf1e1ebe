"""What one writes by hand instead of using us: an aiohttp handler, and one EVALSHA through redis-py for each request.

It counts a user's streams in a sorted set, and does no more: no rules, no throttle, no idempotency, no takeover, no
signed ids, no answer while Redis is away. With ``--sign`` it signs a token for each answer with PyJWT.
"""

import os
import secrets
import sys
import time
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis

from mediaflow.bench.peers.serving import serve_streams
from mediaflow.bench.saying import run

LIMIT, TTL_MS, BEAT_MS = 3, 90_000, 30_000

SCRIPT = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return {0, redis.call('ZCARD', KEYS[1]), 0}
end
redis.call('ZADD', KEYS[1], now_ms + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {1, redis.call('ZCARD', KEYS[1]), string.format('%.0f', now_ms + ARGV[3])}
"""


class Service:
    """The handlers."""

    def __init__(self, redis: Any, *, signs: bool) -> None:
        self._script = redis.register_script(SCRIPT)
        self._key = Ed25519PrivateKey.generate() if signs else None

    async def start(self, request: web.Request) -> web.Response:
        """Begin a stream."""
        body = await request.json()
        return await self._hold(request.match_info["user"], secrets.token_urlsafe(9), body["deviceId"], 201)

    async def beat(self, request: web.Request) -> web.Response:
        """Keep a stream alive."""
        return await self._hold(request.match_info["user"], request.match_info["stream"], "", 200)

    async def _hold(self, user: str, stream: str, device: str, status: int) -> web.Response:
        allowed, active, expires_ms = await self._script(
            keys=[f"streams:{user}"], args=[stream, LIMIT, TTL_MS]
        )
        if not allowed:
            return web.json_response({"limit": LIMIT, "active": active}, status=409)
        answer = {
            "streamId": stream,
            "userId": user,
            "deviceId": device,
            "limit": LIMIT,
            "active": active,
            "expiresAtMs": int(expires_ms),
            "heartbeatIntervalMs": BEAT_MS,
        }
        if self._key is not None:
            claims = {"sub": user, "stream": stream, "limit": LIMIT, "active": active}
            now_s = time.time_ns() // 10**9
            claims |= {"iat": now_s, "exp": int(expires_ms) // 1000}
            answer["token"] = jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": "bench"})
        return web.json_response(answer, status=status)


async def _main() -> None:
    factory: Any = Redis  # half of its types are unknown
    client = factory.from_url(os.environ["MEDIAFLOW_REDIS_URL"])
    service = Service(client, signs="--sign" in sys.argv)
    await serve_streams(service.start, service.beat)


if __name__ == "__main__":
    run(_main())
