"""The console in headless Chromium: what somebody sees who runs calls, with the real programs behind it."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from harness.desk import SOON_MS, Desk
from harness.ports import free_port
from harness.processes import Fleet

with contextlib.suppress(ImportError):  # the fixture chromium says so
    from playwright.async_api import expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]
TOKEN = "a-secret"


@pytest_asyncio.fixture(loop_scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client on the loop of this module."""
    async with aiohttp.ClientSession() as client:
        yield client


async def place(url: str, *call_ids: str, **headers: str) -> dict[str, str]:
    """Start calls and return their owners."""
    owners = {}
    async with aiohttp.ClientSession(headers=headers) as client:
        for call_id in call_ids:
            async with client.post(f"{url}/calls/{call_id}") as answer:
                assert answer.status == 201, await answer.text()
                owners[call_id] = (await answer.json())["owner"]
    return owners


async def test_a_worker_is_killed_and_the_page_shows_the_takeover(desk: Desk, fleet: Fleet) -> None:
    balancer, _ = await asyncio.gather(fleet.balancer(), fleet.watchdog())
    workers = dict(
        zip(
            ("worker-1", "worker-2", "worker-3"),
            await fleet.workers("worker-1", "worker-2", "worker-3", slots=12),
            strict=True,
        )
    )
    await desk.open(balancer.url)
    owners = await place(balancer.url, *(f"room-{number}" for number in range(18)))
    victim = owners["room-0"]
    lost = [call_id for call_id, owner in owners.items() if owner == victim]
    await expect(desk.card(victim).locator(".used")).to_have_text(f"{len(lost)} / 12")

    workers[victim].kill()
    told = "room-0 taken over" if len(lost) == 1 else f"{len(lost)} sessions taken over"
    await expect(desk.activity).to_contain_text(told, timeout=SOON_MS)
    await expect(desk.activity).to_contain_text(f"{victim} left: process died")
    await expect(desk.card(victim)).to_have_attribute("data-state", "gone")
    await expect(desk.page.locator("#f-takeovers")).to_have_text(str(len(lost)), timeout=SOON_MS)
    await expect(desk.page.locator("#f-used")).to_have_text("18")
    await desk.shot("takeover")

    await desk.find("room-0", "^Call room-0$")
    rail = desk.panel.locator(".rail")
    await expect(rail.locator("li").nth(0)).to_contain_text(
        re.compile(rf"{victim} started here.*process died")
    )
    await expect(rail.locator("li").nth(1)).to_contain_text("No owner")
    await expect(rail.locator("li").nth(2)).to_contain_text(re.compile(r"worker-\d taken over"))
    await desk.shot("history")
    await desk.page.keyboard.press("Escape")
    await expect(desk.page.locator("#spoken")).to_contain_text("taken over", timeout=SOON_MS)


async def test_a_worker_that_leaves_in_order_is_shown_to_hand_off(desk: Desk, fleet: Fleet) -> None:
    balancer, _ = await asyncio.gather(fleet.balancer(), fleet.watchdog())
    leaving, _ = await fleet.workers("leaving", "staying", slots=12)
    owners = await place(balancer.url, *(f"room-{number}" for number in range(10)))
    moved = sum(owner == "leaving" for owner in owners.values())
    assert moved > 1
    await desk.open(balancer.url)
    leaving.terminate()
    await expect(desk.activity).to_contain_text(f"{moved} sessions handed off", timeout=SOON_MS)
    await expect(desk.activity).to_contain_text("leaving left: drained")
    await expect(desk.card("staying").locator(".used")).to_have_text("10 / 12")


async def test_drain_on_an_instances_panel_drains_the_process_and_its_sessions_go_on_elsewhere(
    desk: Desk, fleet: Fleet, http
) -> None:
    balancer, _ = await asyncio.gather(fleet.balancer(), fleet.watchdog())
    leaving, _ = await fleet.workers("leaving", "staying", slots=12)
    owners = await place(balancer.url, *(f"room-{number}" for number in range(10)))
    moved = sum(owner == "leaving" for owner in owners.values())
    assert moved > 1
    await desk.open(balancer.url)
    await desk.card("leaving").get_by_role("link", name="leaving").click()
    await desk.panel.get_by_role("button", name="Drain").click()
    sure = desk.page.get_by_role("dialog", name="Drain leaving?")
    await expect(sure).to_contain_text(f"hands off its {moved} sessions, and exits")
    await sure.get_by_role("button", name="Drain").click()
    await expect(desk.page.locator("#notice")).to_have_text("leaving drains")
    await expect(desk.activity).to_contain_text("leaving drains", timeout=SOON_MS)
    await expect(desk.activity).to_contain_text(f"{moved} sessions handed off", timeout=SOON_MS)
    await expect(desk.activity).to_contain_text("leaving left: drained")
    await expect(desk.card("leaving")).to_have_attribute("data-state", "gone")
    await expect(desk.card("staying").locator(".used")).to_have_text("10 / 12")
    assert await leaving.ended() == 0
    async with http.get(f"{balancer.url}/calls") as answer:
        calls = (await answer.json())["calls"]
    assert {call["sessions"][-1]["owner"] for call in calls} == {"staying"}


async def test_a_drain_that_cannot_be_is_explained(desk: Desk, fleet: Fleet) -> None:
    balancer = await fleet.balancer()
    killed, left = await fleet.workers("worker-1", "worker-2", slots=5)
    await desk.open(balancer.url)
    notice, sure = desk.page.locator("#notice"), desk.page.locator("#confirm")
    await desk.card("worker-2").get_by_role("button", name="Drain worker-2").click()
    left.terminate()
    assert await left.ended() == 0
    await sure.get_by_role("button", name="Drain").click()
    await expect(notice).to_contain_text("That did not work: there is no instance 'worker-2' alive")

    killed.kill()  # without a watchdog it counts as alive until its heartbeat expires
    await desk.card("worker-1").get_by_role("button", name="Drain worker-1").click()
    await sure.get_by_role("button", name="Drain").click()
    await expect(notice).to_contain_text(re.compile("That did not work: .*worker-1 cannot be reached"))
    await desk.shot("unreachable")


async def test_renewals_that_the_instances_measured_are_drawn(desk: Desk, fleet: Fleet) -> None:
    balancer = await fleet.balancer()
    await fleet.worker("worker-1", 12)
    await place(balancer.url, *(f"room-{number}" for number in range(12)))
    await desk.open(balancer.url)
    await expect(desk.page.locator("#c-renewals-now")).to_have_text(
        re.compile(r"^([1-9]\d*|0\.[1-9]|[1-9]\.\d) /s$"), timeout=SOON_MS
    )
    await desk.shot("renewals")


async def test_the_token_is_asked_for_and_a_call_is_ended_with_it(desk: Desk, fleet: Fleet, http) -> None:
    fleet.environ["MEDIAFLOW_API_TOKEN"] = TOKEN
    balancer = await fleet.balancer()
    await fleet.worker("worker-1", 5)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    await place(balancer.url, "room-1", **bearer)
    await desk.open(balancer.url, "connecting")
    asked = desk.page.get_by_role("dialog", name="This balancer asks for a token")
    await asked.get_by_label("API token").fill("wrong")
    await desk.page.keyboard.press("Enter")
    await expect(asked).to_contain_text("did not take that token")
    await desk.shot("token")
    await asked.get_by_label("API token").fill(TOKEN)
    await desk.page.keyboard.press("Enter")
    await desk.feels("live")
    await expect(desk.card("worker-1").locator(".used")).to_have_text("1 / 5")

    await desk.find("room-1", "^Call room-1$")
    await desk.panel.get_by_role("button", name="End call").click()
    sure = desk.page.get_by_role("dialog", name="End call room-1?")
    await desk.shot("confirm")
    await sure.get_by_role("button", name="Leave it").click()
    await expect(sure).to_be_hidden()
    async with http.get(f"{balancer.url}/calls/room-1", headers=bearer) as answer:
        assert (await answer.json())["state"] == "active"
    await desk.panel.get_by_role("button", name="End call").click()
    await sure.get_by_role("button", name="End call").click()
    await expect(desk.page.locator("#notice")).to_have_text("Call room-1 is ended")
    await expect(desk.panel.locator(".head")).to_contain_text("cancelled")
    await expect(desk.card("worker-1").locator(".used")).to_have_text("0 / 5")


async def test_it_says_since_when_it_is_cut_off_and_misses_nothing_afterwards(
    desk: Desk, fleet: Fleet
) -> None:
    port = str(free_port())
    balancer = await fleet.balancer("--port", port)
    worker = await fleet.worker("worker-1", 5)
    await place(balancer.url, "room-1")
    await desk.open(balancer.url)
    await expect(desk.card("worker-1").locator(".used")).to_have_text("1 / 5")
    balancer.kill()
    await desk.feels("stale")
    banner = desk.page.locator("#banner")
    await expect(banner).to_contain_text(re.compile(r"Disconnected since \d\d:\d\d:\d\d"))
    await desk.shot("disconnected")
    await place(worker.url, "room-2")
    await fleet.balancer("--port", port)
    await desk.feels("live")
    await expect(banner).to_be_hidden()
    await expect(desk.card("worker-1").locator(".used")).to_have_text("2 / 5")


async def test_it_says_so_when_only_the_store_is_away(desk: Desk, fleet: Fleet, redis_server) -> None:
    balancer = await fleet.balancer()
    await desk.open(balancer.url)
    await expect(desk.page.locator("#empty")).to_contain_text("mediaflow worker")
    redis_server.stop()
    await desk.feels("stale")
    await expect(desk.page.locator("#banner")).to_contain_text("The balancer cannot read its store since")
    redis_server.start()
    await desk.feels("live")


async def test_the_streams_of_a_user_are_shown_with_what_is_in_the_way_of_one_more(
    desk: Desk, fleet: Fleet, http
) -> None:
    fleet.environ["MEDIAFLOW_STREAM_LIMIT"] = "3"
    fleet.environ["MEDIAFLOW_STREAM_RULES"] = '[{"policy": "live", "max": 1, "where": {"kind": "live"}}]'
    service = fleet.start("concurrency")
    balancer, _ = await asyncio.gather(fleet.balancer(), service.ready())
    for device, kind in (("Television", "live"), ("Phone", "film")):
        asked = {"deviceId": device, "metadata": {"kind": kind}}
        async with http.post(f"{service.url}/v1/users/ann%40home/streams", json=asked) as answer:
            assert answer.status == 201
            stream = await answer.json()
    await desk.open(balancer.url)
    await desk.find("ann@home", "Streams of user")
    await expect(desk.panel.locator(".rules li")).to_have_text(
        [re.compile("2 of 3"), re.compile("live.*1 of 1")]
    )
    await expect(desk.panel.locator(".verdict")).to_contain_text("No room for one more under live")
    await expect(desk.panel.locator(".streams li.full")).to_contain_text(
        re.compile("Television.*in the way under live")
    )
    await desk.shot("streams")
    async with http.delete(f"{service.url}/v1/users/ann%40home/streams/{stream['streamId']}") as answer:
        assert answer.status == 204
    await expect(desk.panel.locator(".streams li")).to_have_count(1)
