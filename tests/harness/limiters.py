"""Stream limiters on any Redis: opened and closed with the test, on a clock that a test may move."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import fakeredis
import jwt

from mediaflow.limiter import StreamEnded, StreamLimiter, StreamRefused, StreamThrottled, StreamUnknown
from mediaflow.limiter import limiter as limiter_module
from mediaflow.store import single, streams

START_S = 1_800_000_000.0


class MovableClock:
    """The wall clock of this process and of a Redis inside it; it stands still until it is moved."""

    def __init__(self, monkeypatch: Any) -> None:
        self.now_s = START_S
        monkeypatch.setattr(time, "time", lambda: self.now_s)

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def move(self, seconds: float) -> None:
        # Whole milliseconds: a sum of fractions would drift by one.
        self.now_s = round(self.now_s + seconds, 3)


def be_patient(monkeypatch: Any) -> None:
    """Let a slow machine be slow: Redis counts as away only after seconds."""
    monkeypatch.setattr(limiter_module, "ANSWER_WITHIN_S", 20.0)
    monkeypatch.setattr(streams, "STORE_TIMEOUT_S", 20.0)


class Bench:
    """Opens limiters on one Redis, in a namespace of the test's own; ``raw`` goes behind their backs."""

    def __init__(self, url: str, raw: Any, **defaults: Any) -> None:
        self.url = url
        self.raw = raw
        self.namespace = f"test-{uuid.uuid4().hex[:12]}"
        self._defaults = {"namespace": self.namespace, **defaults}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *outcome: object) -> None:
        await self._stack.aclose()

    async def open(self, **flags: Any) -> StreamLimiter:
        limiter = StreamLimiter(**{"redis": self.url, **self._defaults, **flags})
        return await self._stack.enter_async_context(limiter)

    def user_keys(self) -> list[str]:
        """Return the keys of all users."""
        return sorted(
            key.decode() for key in self.raw.keys(f"{self.namespace}:*") if b"{registry}" not in key
        )


@asynccontextmanager
async def bench_in_process(clock: MovableClock, **defaults: Any) -> AsyncGenerator[Bench]:
    """Give a bench on a Redis inside this process, which obeys the clock."""
    name = f"limiter-{uuid.uuid4().hex}"
    raw = fakeredis.FakeRedis(server=single._servers_in_process.setdefault(name, fakeredis.FakeServer()))
    async with Bench(f"memory://{name}", raw, now_ms=clock.now_ms, **defaults) as made:
        yield made
    single._servers_in_process.pop(name)


async def refusal(starting: Any) -> StreamRefused:
    """Return the refusal that a start has to end in."""
    try:
        answer = await starting
    except StreamRefused as refused:
        return refused
    raise AssertionError(f"not refused: {answer}")


async def ending(asking: Any) -> StreamEnded:
    """Return why a stream is over; it has to be."""
    try:
        answer = await asking
    except StreamEnded as ended:
        return ended
    raise AssertionError(f"not ended: {answer}")


async def outcome(asking: Any) -> str:
    """Return in a word what became of a request."""
    try:
        answer = await asking
    except StreamRefused:
        return "refused"
    except StreamEnded as ended:
        return ended.reason
    except StreamUnknown:
        return "unknown"
    except StreamThrottled:
        return "throttled"
    return "degraded" if getattr(answer, "degraded", False) else "fine"


def verified(token: str, keys: dict[str, Any], algorithm: str) -> dict[str, Any]:
    """Return the claims of a token as any third party reads them."""
    known = {key["kid"]: jwt.PyJWK(key) for key in keys["keys"]}
    key = known[jwt.get_unverified_header(token)["kid"]]
    # Its times are of the test's clock, which the library does not know.
    return jwt.decode(token, key, algorithms=[algorithm], options={"verify_exp": False, "verify_iat": False})
