"""The player of examples/player in headless Chromium, beside the real service on a real redis-server."""

import asyncio
import contextlib
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from harness.processes import Fleet
from harness.waiting import eventually

with contextlib.suppress(ImportError):  # the fixture chromium says so
    from playwright.async_api import BrowserContext, Page, expect

# One browser and one service for all tests of this module: each test is a user of its own.
pytestmark = [
    pytest.mark.browser,
    pytest.mark.redis,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow,
]
of_module = pytest_asyncio.fixture(scope="module", loop_scope="module")

SERVE = Path(__file__).parents[2] / "examples" / "player" / "serve.py"
LIMIT = 2
TTL_S = 4.0
BEAT_S = 1.0
SOON_MS = 10_000
READABLE = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After"}
AT_ONCE_S = 1.0
"""For a beacon; well below the life of a stream, so that an expiry cannot pass for it."""


@pytest.fixture(scope="module")
def redis(request):
    """The private redis-server of this module."""
    return request.getfixturevalue("_redis_of_module")


@of_module
async def service(chromium, redis) -> AsyncIterator[str]:
    """The service with a limit of two and short lives."""
    programs = Fleet("--redis", redis.url)
    program = programs.start(
        "concurrency",
        environ={
            "MEDIAFLOW_STREAM_LIMIT": str(LIMIT),
            "MEDIAFLOW_STREAM_TTL": str(TTL_S),
            "MEDIAFLOW_STREAM_HEARTBEAT_INTERVAL": str(BEAT_S),
        },
    )
    try:
        yield await program.ready()
    finally:
        programs.close()


@of_module
async def site(chromium) -> AsyncIterator[str]:
    """The page, from another origin than the service's."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SERVE),
        *("--port", "0"),
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
        found = re.search(r"http://\S+", line)
        assert found, line
        yield found[0]
    finally:
        process.terminate()
        await process.communicate()


class Visitor:
    """One user with tabs in one browser. ``shots`` is where pictures of the page go."""

    def __init__(self, context: "BrowserContext", site: str, service: str, shots: Path) -> None:
        self.context = context
        self.site = site
        self.service = service
        self.user = f"ann-{uuid.uuid4().hex[:6]}"
        self.shots = shots
        self.errors: list[str] = []

    async def open(self, device: str) -> "Page":
        """Open a tab on a device, and do not press Play."""
        page = await self.context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        await page.goto(f"{self.site}?user={self.user}&device={device}&service={self.service}")
        return page

    async def play(self, device: str, state: str = "playing") -> "Page":
        """Open a tab, press Play, and wait for what comes of it."""
        page = await self.open(device)
        await page.get_by_role("button", name="Play").click()
        await becomes(page, state)
        return page

    async def shot(self, page: "Page", name: str) -> None:
        await page.screenshot(path=self.shots / f"{name}.png")

    async def active(self) -> int:
        """Return how many streams the service counts."""
        answer = await self.context.request.get(f"{self.service}/v1/users/{self.user}/streams")
        return (await answer.json())["active"]


@pytest_asyncio.fixture(loop_scope="module")
async def ann(chromium, site, service, tmp_path) -> AsyncIterator[Visitor]:
    context = await chromium.new_context(viewport={"width": 1000, "height": 700}, locale="en-GB")
    visitor = Visitor(context, site, service, tmp_path)
    yield visitor
    await context.close()
    assert visitor.errors == []


async def becomes(page: "Page", state: str, within_ms: int = SOON_MS) -> None:
    await expect(page.locator("body")).to_have_attribute("data-state", state, timeout=within_ms)


async def plays(page: "Page") -> bool:
    """Tell whether the picture moves."""
    video = page.locator("video")
    before_s = await video.evaluate("video => video.currentTime")
    with contextlib.suppress(AssertionError):
        await eventually(
            lambda: video.evaluate("video => video.currentTime"), 2.0, until=lambda now_s: now_s > before_s
        )
        return True
    return False


async def paused(page: "Page") -> bool:
    return await page.locator("video").evaluate("video => video.paused")


async def test_a_third_tab_is_refused_takes_over_and_the_victim_says_by_whom(ann: Visitor) -> None:
    television = await ann.play("Television")
    phone = await ann.play("Phone")
    assert await plays(television)
    await expect(phone.locator("#places")).to_have_text("2 of 2 in use")

    laptop = await ann.play("Laptop", "refused")
    dialog = laptop.get_by_role("dialog", name="Playing somewhere else")
    await expect(dialog.get_by_role("listitem")).to_have_count(2)
    await expect(dialog).to_contain_text("Playing on Television")
    await expect(dialog).to_contain_text("Playing on Phone")
    assert await paused(laptop)
    await ann.shot(laptop, "refused")
    await laptop.emulate_media(color_scheme="dark")
    await ann.shot(laptop, "refused-dark")

    await dialog.get_by_role("button", name="Stop the oldest and play here").click()
    await becomes(laptop, "playing")
    assert await plays(laptop)
    await ann.shot(laptop, "playing-dark")
    await becomes(television, "ended")
    assert await paused(television)
    await expect(television.get_by_role("status")).to_contain_text("Stopped by Laptop")
    await ann.shot(television, "ended")
    await becomes(phone, "playing")
    assert await ann.active() == LIMIT


async def test_a_conflict_is_ended_by_its_own_button_and_by_keyboard(ann: Visitor) -> None:
    television = await ann.play("Television")
    phone = await ann.play("Phone")
    laptop = await ann.open("Laptop")
    await laptop.keyboard.press("Tab")
    await expect(laptop.get_by_role("button", name="Play")).to_be_focused()
    await laptop.keyboard.press("Enter")
    await becomes(laptop, "refused")
    await expect(laptop.get_by_role("button", name=re.compile("Television"))).to_be_focused()
    await laptop.keyboard.press("Tab")
    await expect(laptop.get_by_role("button", name=re.compile("Phone.*stop it there"))).to_be_focused()
    await ann.shot(laptop, "keyboard")
    await laptop.keyboard.press("Enter")
    await becomes(laptop, "playing")
    await expect(laptop.get_by_role("button", name="Stop")).to_be_focused()
    await becomes(phone, "ended")
    await becomes(television, "playing")


async def test_who_says_not_now_takes_nothing_from_anybody(ann: Visitor) -> None:
    for device in ("Television", "Phone"):
        await ann.play(device)
    laptop = await ann.play("Laptop", "refused")
    await laptop.keyboard.press("Escape")
    await expect(laptop.get_by_role("dialog")).to_be_hidden()
    await expect(laptop.get_by_role("status")).to_contain_text("All places of this account are in use")
    assert await ann.active() == LIMIT


async def test_a_closed_tab_frees_its_place_at_once(ann: Visitor) -> None:
    television = await ann.play("Television")
    await ann.play("Phone")
    await television.close()
    await eventually(ann.active, AT_ONCE_S, until=lambda count: count == 1)
    await ann.play("Laptop")


async def test_stop_frees_the_place_at_once(ann: Visitor) -> None:
    phone = await ann.play("Phone")
    await phone.get_by_role("button", name="Stop").click()
    await becomes(phone, "idle")
    await eventually(ann.active, AT_ONCE_S, until=lambda count: count == 0)


async def test_a_page_that_comes_back_from_the_cache_plays_again(ann: Visitor) -> None:
    phone = await ann.play("Phone")
    await phone.evaluate("window.kept = true")
    await phone.goto(ann.site)
    await eventually(ann.active, AT_ONCE_S, until=lambda count: count == 0)
    await phone.evaluate("void history.back()")
    await becomes(phone, "playing")
    assert await phone.evaluate("window.kept"), "it was loaded anew: this tests nothing"
    assert await plays(phone)
    assert await ann.active() == 1


async def test_without_network_it_plays_until_its_life_is_over_and_then_goes_on(ann: Visitor) -> None:
    phone = await ann.play("Phone")
    await ann.context.set_offline(True)
    await expect(phone.get_by_role("status")).to_contain_text("Playing on, though")
    assert await plays(phone)
    await becomes(phone, "lost")
    assert await paused(phone)
    await ann.shot(phone, "lost")
    await ann.context.set_offline(False)
    await becomes(phone, "playing")
    assert await plays(phone)


async def test_it_plays_on_while_redis_is_away_and_says_that_nothing_is_counted(ann: Visitor, redis) -> None:
    phone = await ann.play("Phone")
    redis.stop()
    await expect(phone.get_by_role("status")).to_contain_text("cannot be counted")
    assert await plays(phone)
    await ann.shot(phone, "degraded")
    redis.start()
    await expect(phone.get_by_role("status")).to_have_text("Playing.", timeout=SOON_MS)
    assert await ann.active() == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_it_comes_back_when_it_was_told_to_and_asks_for_the_same_place(
    ann: Visitor, status: int
) -> None:
    keys: list[str] = []

    async def busy_at_first(route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            body = '{"title": "Later", "status": 0, "detail": "too many at once"}'
            headers = {"Retry-After": "1", **READABLE}
            await route.fulfill(status=status, headers=headers, body=body)
        else:
            await route.continue_()

    await ann.context.route("**/v1/users/*/streams", busy_at_first)
    phone = await ann.open("Phone")
    await phone.get_by_role("button", name="Play").click()
    await becomes(phone, "waiting")
    await expect(phone.get_by_role("status")).to_contain_text("Too many at once. Trying again in 1 s.")
    assert await paused(phone)
    await becomes(phone, "playing")
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_a_service_that_forgot_the_id_is_asked_for_a_place_anew(ann: Visitor) -> None:
    forgotten: list[str] = []

    async def forget(route) -> None:
        if not forgotten:
            forgotten.append(route.request.url)
            await route.fulfill(status=404, headers=READABLE, body="{}")
        else:
            await route.continue_()

    await ann.context.route(re.compile(r"/v1/users/[^/]+/streams/[^/]+$"), forget)
    phone = await ann.play("Phone")
    await eventually(lambda: forgotten, 2 * BEAT_S + 1)
    await becomes(phone, "playing")
    assert await plays(phone)


async def test_words_and_buttons_stand_out_from_what_is_behind_them(ann: Visitor) -> None:
    for device in ("Television", "Phone"):
        await ann.play(device)
    laptop = await ann.play("Laptop", "refused")
    for scheme in ("light", "dark"):
        await laptop.emulate_media(color_scheme=scheme)
        found = await laptop.evaluate(CONTRASTS)
        assert len(found) > 5
        assert {what: ratio for what, ratio in found.items() if ratio < 4.5} == {}, scheme


# Relative luminance and contrast as WCAG 2.2 defines them; the dialog and what stands on the plain page.
CONTRASTS = """() => {
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => rgb(colour).slice(0, 3)
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if ((rgb(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  for (const node of document.querySelectorAll("h1, h2, #who, #status, dialog p, button")) {
    if (!node.textContent || node.closest("[hidden]")) continue;
    const [high, low] = [luminance(getComputedStyle(node).color), luminance(behind(node))].sort((a, b) => b - a);
    found[node.textContent] = (high + 0.05) / (low + 0.05);
  }
  return found;
}"""
