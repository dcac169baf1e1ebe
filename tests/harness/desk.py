"""Somebody's browser at the console, and a balancer's surface to look at without any other program."""

import contextlib
import re
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from harness.surfaces import own_settings, own_store, reading_surface
from mediaflow import console
from mediaflow.web.events import EventFeed
from mediaflow.web.program import background

with contextlib.suppress(ImportError):  # the fixture chromium says so
    from playwright.async_api import Page, expect

SOON_MS = 15_000


class Desk:
    """Somebody's browser at the console; ``shot`` keeps a picture of what they see."""

    def __init__(self, page: "Page", shots: Path) -> None:
        self.page = page
        self._shots = shots

    async def open(self, url: str, state: str = "live") -> None:
        await self.page.goto(f"{url}/console")
        await self.feels(state)

    async def feels(self, state: str) -> None:
        await expect(self.page.locator("body")).to_have_attribute("data-feed", state, timeout=SOON_MS)

    def card(self, instance_id: str):
        return self.page.locator(f'[data-instance="{instance_id}"]')

    @property
    def activity(self):
        return self.page.locator("#activity")

    @property
    def panel(self):
        return self.page.locator("#panel")

    async def find(self, text: str, option: str) -> None:
        """Type into the search field and take what is offered."""
        await self.page.keyboard.press("/")
        await self.page.keyboard.type(text)
        await self.page.get_by_role("option", name=re.compile(option)).click()

    async def shot(self, name: str) -> None:
        for scheme in ("light", "dark"):
            await self.page.emulate_media(color_scheme=scheme)
            await self.page.screenshot(path=self._shots / f"{name}-{scheme}.png")


@asynccontextmanager
async def in_this_process(**about):
    """Serve a console over a store of the test's own, without any other program."""
    settings = own_settings(**about)
    async with own_store(settings) as store:
        feed = EventFeed(store)
        face = reading_surface(store, settings, feed)
        console.add_routes(face, store)
        async with background(feed.run()), serving(face.application()) as url:
            yield url, store
            feed.close()


@asynccontextmanager
async def serving(app):
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
