"""A client of a balancer: ``URL NUMBER AT_ONCE PAUSE_S`` posts so many calls, so many at once, with pauses between.

Says ``asked`` and ``answered``, when each was; ``pending``, how many were not given an owner at once; ``refusals``,
what was answered to those that were not accepted.

It stands for as many machines, and shares its own with what is measured: so it does no more than it must.
"""

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from mediaflow.bench.load import body_of, request
from mediaflow.bench.saying import run, say

_DEADLINE_S = 30.0


class _Line(asyncio.Protocol):
    """One connection, with one request under way at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, packed: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Return the status and the body of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            raise ConnectionError("the balancer closed the connection")
        self._transport.write(packed)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        body = body_of(self._received)
        if body is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result((int(self._received[9:12]), body))
            self._received = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the balancer closed the connection"))


async def _main(url: str, number: int, at_once: int, pause_s: float) -> None:
    asked: dict[int, float] = {}
    answered: dict[int, float] = {}
    pending = 0
    refusals: list[str] = []
    address = urlsplit(url)
    loop = asyncio.get_running_loop()

    async def some() -> None:
        nonlocal pending
        line: _Line | None = None
        for one in numbers:
            async with asyncio.timeout(_DEADLINE_S):
                asked[one] = time.monotonic()
                if line is None:
                    _, line = await loop.create_connection(_Line, address.hostname or "", address.port or 80)
                status, body = await line.ask(request("POST", f"/calls/call-{one}", b'{"room":%d}' % one))
                answered[one] = time.monotonic()
            told = json.loads(body)
            if status < 300:
                pending += told["state"] == "pending"
            else:
                refusals.append(f"{status} {told.get('detail') or told.get('title')}")
            await asyncio.sleep(pause_s)

    numbers = iter(range(number))
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(some())
    say(asked=asked, answered=answered, pending=pending, refusals=refusals)


if __name__ == "__main__":
    run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
