"""The concurrency service in process, and a player's side of its contract in as few words as tests need."""

from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from aiohttp.test_utils import TestClient
from yarl import URL

from harness.api import Answer
from harness.surfaces import client_of, own_settings, own_store
from mediaflow.concurrency import surface
from mediaflow.limiter import StreamLimiter


class Player:
    """Asks a service; paths are sent as they are written, percent-encoding included."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        async with self.client.request(method, URL(path, encoded=True), **options) as response:
            found = await response.read()
            body = (
                await response.json(content_type=None) if found and "json" in response.content_type else None
            )
            return Answer(response.status, body, dict(response.headers))

    async def start(self, user: str = "ann", device: str = "tv", *, headers=None, **more: Any) -> Answer:
        path = f"/v1/users/{quote(user, safe='')}/streams"
        return await self.ask("POST", path, json={"deviceId": device, **more}, headers=headers)

    async def beat(self, location: str, **options: Any) -> Answer:
        return await self.ask("PUT", location, **options)

    async def stop(self, location: str, **options: Any) -> Answer:
        return await self.ask("DELETE", location, **options)

    async def streams(self, user: str = "ann", **options: Any) -> Any:
        return (await self.ask("GET", f"/v1/users/{quote(user, safe='')}/streams", **options)).body

    async def metric(self, name: str) -> float:
        async with self.client.get("/metrics") as response:
            for line in (await response.text()).splitlines():
                if line.startswith(f"mediaflow_{name} "):
                    return float(line.split()[1])
        raise AssertionError(f"no metric mediaflow_{name}")


@asynccontextmanager
async def concurrency_service(**settings: Any):
    """Serve with an empty store of its own; gives a player."""
    chosen = own_settings(**settings)
    async with (
        own_store(chosen) as store,
        StreamLimiter(chosen, store=store) as limiter,
        client_of(surface(limiter, chosen).application()) as client,
    ):
        yield Player(client)
