"""Makes the pictures of the README: minutes of calls, handoffs and deaths, then the console as it is.

PYTHONPATH=.:tests python tests/browser/pictures.py [SECONDS]
"""

import asyncio
import random
import sys
from pathlib import Path

import aiohttp
from harness.processes import Fleet, Program
from harness.redis import RedisServer
from playwright.async_api import Page, async_playwright

FOLDER = Path(__file__).parents[2] / ".assets"
WORKERS, SLOTS, BUSY = 6, 60, 235
EVENTS = (
    (0.22, "drain", "worker-4"),
    (0.25, "start", "worker-4"),
    (0.48, "kill", "worker-2"),
    (0.54, "start", "worker-2"),
    (0.72, "drain", "worker-6"),
    (0.75, "start", "worker-6"),
    (1.0, "kill", "worker-3"),
)
ARRIVALS_S = 9
AFTERWARDS_S = 2.5


class Scene:
    """A fleet, its calls, and what happens to both."""

    def __init__(self, fleet: Fleet, url: str, client: aiohttp.ClientSession) -> None:
        self._fleet, self._url, self._client = fleet, url, client
        self._workers: dict[str, Program] = {}
        self._calls: list[str] = []
        self._number = 0

    async def start(self, name: str) -> None:
        self._workers[name] = await self._fleet.worker(name, SLOTS)

    async def act(self, what: str, name: str) -> None:
        if what == "start":
            await self.start(name)
        elif what == "kill":
            self._workers[name].kill()
        else:
            self._workers[name].terminate()

    async def come_and_go(self, until_s: float) -> None:
        """Let calls arrive, and end some of those that are old, until a moment of the loop's clock."""
        loop = asyncio.get_running_loop()
        while loop.time() < until_s:
            self._number += 1
            call_id = f"{random.choice(('meeting', 'room', 'call'))}-{self._number:04d}"
            async with self._client.post(f"{self._url}/calls/{call_id}") as answer:
                if answer.status == 201:
                    self._calls.append(call_id)
            if len(self._calls) > BUSY + random.randrange(20):
                ended = self._calls.pop(random.randrange(len(self._calls) // 2))
                await self._client.delete(f"{self._url}/calls/{ended}")
            await asyncio.sleep(random.expovariate(ARRIVALS_S))


async def shoot(page: Page) -> None:
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        await page.screenshot(path=FOLDER / f"console-{scheme}.png")


async def main(seconds: float) -> None:
    redis = RedisServer()
    redis.start()
    fleet = Fleet("--redis", redis.url)
    try:
        balancer = await fleet.balancer()
        await fleet.watchdog()
        async with aiohttp.ClientSession() as client, async_playwright() as playwright:
            scene = Scene(fleet, balancer.url, client)
            for number in range(1, WORKERS + 1):
                await scene.start(f"worker-{number}")
            browser = await playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox"]
            )
            page = await browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-GB")
            await page.goto(f"{balancer.url}/console")
            began_s = asyncio.get_running_loop().time()
            for part, what, name in EVENTS:
                await scene.come_and_go(began_s + part * seconds)
                await scene.act(what, name)
            await scene.come_and_go(began_s + seconds + AFTERWARDS_S)
            await shoot(page)
            await browser.close()
    finally:
        fleet.close()
        redis.close()


if __name__ == "__main__":
    random.seed(4)
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 270.0))
