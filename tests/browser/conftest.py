"""A headless Chromium, one for each module, and somebody at the console in it."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from harness.desk import Desk

try:
    from playwright.async_api import Browser, async_playwright
except ImportError:
    async_playwright = None

CHROMIUM = shutil.which("chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> "AsyncIterator[Browser]":
    """A browser with a profile of its own, which may keep pages in its back/forward cache as visitors' do."""
    missing = [
        name
        for name, there in (("chromium", CHROMIUM), ("the package playwright", async_playwright))
        if not there
    ]
    if missing:
        message = f"needs {' and '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{message}, and in CI it has to be there")
        pytest.skip(message)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=CHROMIUM_FLAGS,
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def desk(chromium, tmp_path) -> AsyncIterator[Desk]:
    context = await chromium.new_context(viewport={"width": 1440, "height": 900}, locale="en-GB")
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Security Policy" in said.text else None)
    yield Desk(page, tmp_path)
    await context.close()
    assert errors == []
