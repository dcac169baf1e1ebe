"""The HTTP contract as a client sees it, in as few words as tests need."""

import asyncio
import time
from typing import Any, NamedTuple

import aiohttp


class Answer(NamedTuple):
    """An HTTP answer: its status, its JSON body (None if it has none), and its headers."""

    status: int
    body: Any
    headers: dict[str, str]


class Api:
    """Asks one program."""

    def __init__(self, client: aiohttp.ClientSession, url: str) -> None:
        self.client = client
        self.url = url

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        async with self.client.request(method, self.url + path, **options) as response:
            found = await response.read()
            body = (
                await response.json(content_type=None) if found and "json" in response.content_type else None
            )
            return Answer(response.status, body, dict(response.headers))

    async def submit(self, call_id: str, metadata: Any = None, key: str = "") -> Answer:
        headers = {"Idempotency-Key": key} if key else {}
        return await self.ask("POST", f"/calls/{call_id}", json=metadata or {}, headers=headers)

    async def submit_all(
        self, call_ids: list[str], metadata: Any = None, *, at_once: int = 16
    ) -> list[Answer]:
        """Submit many calls, a bounded number at a time; answers in order."""
        turnstile = asyncio.Semaphore(at_once)

        async def one(call_id: str) -> Answer:
            async with turnstile:
                return await self.submit(call_id, metadata)

        return list(await asyncio.gather(*(one(call_id) for call_id in call_ids)))

    async def call(self, call_id: str) -> Any:
        return (await self.ask("GET", f"/calls/{call_id}")).body

    async def end(self, call_id: str) -> int:
        return (await self.ask("DELETE", f"/calls/{call_id}")).status

    async def calls(self, state: str = "") -> list[Any]:
        """Return all calls, page by page."""
        found: list[Any] = []
        cursor = None
        while True:
            query = (
                {"limit": "500"}
                | ({"state": state} if state else {})
                | ({"cursor": cursor} if cursor else {})
            )
            page = (await self.ask("GET", "/calls", params=query)).body
            found += page["calls"]
            cursor = page["cursor"]
            if cursor is None:
                return found

    async def owners(self) -> dict[str, str]:
        """Return the owner of each active call."""
        return {
            call["callId"]: session["owner"]
            for call in await self.calls("active")
            for session in call["sessions"]
            if session["state"] == "active"
        }

    async def history(self, call_id: str) -> list[Any]:
        return (await self.ask("GET", f"/calls/{call_id}/history")).body["events"]

    async def instances(self) -> dict[str, Any]:
        found = (await self.ask("GET", "/instances")).body["instances"]
        return {one["instanceId"]: one for one in found}

    async def gauge(self, name: str) -> float:
        """Return a gauge of the program's own metrics; of one with labels that are not given, the sum."""
        metric, brace, labels = name.partition("{")
        wanted = f"mediaflow_{metric}{brace}{labels}".removesuffix("}")
        found = [value for series, value in (await self.metrics()).items() if _is_of(series, wanted)]
        assert found, f"no gauge mediaflow_{name}"
        return sum(found)

    async def metrics(self) -> dict[str, float]:
        """Return the program's own metrics, by name and labels as they are shown."""
        async with self.client.get(self.url + "/metrics") as response:
            shown = (await response.text()).splitlines()
        lines = [line.rpartition(" ") for line in shown if not line.startswith("#")]
        return {series: float(value) for series, _, value in lines}


def _is_of(series: str, wanted: str) -> bool:
    return series == wanted or series.startswith((wanted + "{", wanted + "}", wanted + ","))


class Sampler:
    """Asks programs for a gauge again and again, and keeps the highest value of each."""

    def __init__(self, programs: dict[str, Api], gauge: str, *, every_s: float = 0.05) -> None:
        self._programs = programs
        self._gauge = gauge
        self._every_s = every_s
        self.highest: dict[str, float] = dict.fromkeys(programs, 0.0)
        self.samples = 0

    async def run(self) -> None:
        while True:
            for name, api in self._programs.items():
                self.highest[name] = max(self.highest[name], await api.gauge(self._gauge))
            self.samples += 1
            await asyncio.sleep(self._every_s)


def since(began_s: float) -> float:
    """Return the seconds since a reading of the monotonic clock."""
    return time.monotonic() - began_s
