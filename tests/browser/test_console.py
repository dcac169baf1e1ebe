"""The page of the console in headless Chromium, over a store in this process."""

import contextlib
import re

import pytest
from harness.desk import Desk, in_this_process
from harness.surfaces import owner_of, start_call

from mediaflow.store import Claim

with contextlib.suppress(ImportError):  # the fixture chromium says so
    from playwright.async_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_instances_and_their_sessions_are_there_and_follow_what_happens(desk: Desk) -> None:
    async with in_this_process() as (url, store):
        owner = await owner_of(store, "alpha", slots=10)
        claims = {}
        for name in ("one", "two"):
            made = await start_call(store, name, owner)
            claims[name] = Claim(name, made.session_id, made.fence)
        await desk.open(url)
        await expect(desk.card("alpha").locator(".used")).to_have_text("2 / 10")
        await start_call(store, "three", owner)
        await expect(desk.card("alpha").locator(".used")).to_have_text("3 / 10")
        await store.complete(owner, claims["two"])
        await expect(desk.card("alpha").locator(".used")).to_have_text("2 / 10")
        await start_call(store, "four")
        await expect(desk.card("")).to_contain_text("1 session")

        await desk.page.keyboard.press("/")
        await desk.page.keyboard.type("on")
        await expect(desk.page.get_by_role("option", name="Call one")).to_have_attribute(
            "aria-selected", "true"
        )
        await desk.page.keyboard.press("Enter")
        await expect(desk.panel).to_contain_text("started here")
        await expect(desk.panel.locator(".lease")).to_contain_text(re.compile(r"\d\.\d s"))
        await expect(desk.panel).to_be_focused()
        await desk.page.keyboard.press("Escape")
        await expect(desk.panel).to_be_hidden()


async def test_what_a_call_is_named_is_text_and_nothing_else(desk: Desk) -> None:
    async with in_this_process() as (url, store):
        name = "<img src=x onerror=document.title='hacked'>"
        await owner_of(store, "alpha", slots=10)
        await desk.open(url)
        await desk.page.goto(f"{url}/console#user/{name}")
        await expect(desk.page.locator("#panel-title")).to_have_text(name)
        await expect(desk.panel).to_contain_text("There is room for one more.")
        assert await desk.page.title() == "mediaflow console"


async def test_the_slots_are_looked_at_with_the_arrow_keys(desk: Desk) -> None:
    async with in_this_process() as (url, store):
        owner = await owner_of(store, "alpha", slots=10)
        for name in ("one", "two"):
            await start_call(store, name, owner)
        await desk.open(url)
        await expect(desk.card("alpha").locator(".used")).to_have_text("2 / 10")
        await desk.card("alpha").locator("canvas").focus()
        await desk.page.keyboard.press("ArrowRight")
        tip = desk.page.get_by_role("tooltip")
        first = await tip.locator("b").text_content()
        await desk.page.keyboard.press("ArrowRight")
        await expect(tip.locator("b")).to_have_text("two" if first == "one" else "one")
        await expect(tip).to_contain_text("running")
        await expect(tip.locator(".lease")).to_contain_text(re.compile(r"\d\.\d s"))
        await desk.page.keyboard.press("Enter")
        await expect(desk.page.locator("#panel-title")).to_have_text("two" if first == "one" else "one")


async def test_a_drain_is_asked_for_only_after_it_was_confirmed(desk: Desk) -> None:
    asked: list[str] = []

    async def accept(route) -> None:
        asked.append(f"{route.request.method} {route.request.url.partition('/instances/')[2]}")
        await route.fulfill(status=202)

    async with in_this_process() as (url, store):
        await start_call(store, "one", await owner_of(store, "alpha", slots=10))
        await desk.page.route("**/instances/*/drain", accept)
        await desk.open(url)
        await expect(desk.card("alpha").locator(".used")).to_have_text("1 / 10")
        await desk.card("alpha").get_by_role("button", name="Drain alpha").click()
        sure = desk.page.get_by_role("dialog", name="Drain alpha?")
        await expect(sure).to_contain_text("hands off its session, and exits")
        await desk.page.keyboard.press("Escape")
        await expect(sure).to_be_hidden()
        assert asked == []
        await desk.card("alpha").get_by_role("button", name="Drain alpha").click()
        await sure.get_by_role("button", name="Drain").click()
        await expect(desk.page.locator("#notice")).to_have_text("alpha drains")
    assert asked == ["POST alpha/drain"]


PIECES = """async () => {
  const {Parser} = await import("./console/feed.mjs");
  const {spans} = await import("./console/history.mjs");
  const {Latency, Counts, Readings, quantile} = await import("./console/past.mjs");
  const {Model} = await import("./console/model.mjs");
  const parser = new Parser();
  const parsed = [": hello\\n\\nid: 1-0-0\\nev", "ent: x\\ndata: {}\\n", "\\nevent: reset\\ndata: {}\\n\\n"]
    .flatMap((piece) => parser.take(piece));

  const at = (second) => new Date(1.7e12 + second * 1000).toISOString();
  const event = (second, name, instanceId, fence, reason, sessionId = "s") =>
    ({at: at(second), event: `session.${name}`, instanceId, fence, reason, sessionId, callId: "c"});
  const story = spans([
    event(0, "created", "a", 1, ""), event(0, "activated", "a", 1, "created"),
    event(9, "pending", "a", 1, "process died"), event(10, "takeover", "b", 2, "takeover"),
    event(12, "activated", "b", 3, "renewed late"),
    event(20, "completed", "b", 3, "completed"),
  ]).map(({instanceId, fence, fromMs, toMs, began, ended, why}) =>
    [instanceId, fence, (fromMs - 1.7e12) / 1000, (toMs - 1.7e12) / 1000, began, ended, why]);

  const latency = new Latency();
  const labels = 'method="POST",route="/calls/{call_id}",status="201"';
  const exposed = (fast, slow) => [["0.01", fast], ["0.1", fast + slow], ["+Inf", fast + slow]]
    .map(([le, total]) => `mediaflow_http_request_seconds_bucket{le="${le}",${labels}} ${total}`).join("\\n");
  latency.read(exposed(100, 0), 1);
  latency.read(exposed(100, 100), 2);
  latency.read(exposed(100, 100), 3);
  latency.read(exposed(10, 0), 4);

  const readings = new Readings("mediaflow_fleet_renewals_per_second");
  readings.read("# TYPE mediaflow_fleet_renewals_per_second gauge\\nmediaflow_fleet_renewals_per_second 24.5\\n", 1);
  readings.read("", 2);

  const counts = new Counts();
  for (const second of [1000, 1000, 1001, 3000]) counts.add("started", second * 1000);

  const late = new Model();
  const call = (sessionId, owner) =>
    ({callId: "c", sessions: [{sessionId, owner, state: "active", fence: 1, attempt: 1}]});
  late.beginList();
  late.apply(event(1, "completed", "a", 1, "", "ended"), 0);
  late.apply(event(1, "takeover", "b", 2, "", "moved"), 0);
  late.list([call("ended", "a"), call("moved", "a"), call("kept", "a")]);
  late.endList();
  late.beginList();
  late.list([call("kept", "a")]);
  late.endList();
  return {
    parsed, story,
    p50: latency.points.map(({p50Ms}) => p50Ms && Math.round(p50Ms)),
    renewals: readings.points.map(({value}) => value),
    counted: [counts.sum("started", 0, 5000), counts.at("started", 1000)],
    quantiles: [quantile([], 0.5), quantile([1, 2, 3], 0.5), quantile([7], 0.99)],
    sessions: [...late.sessions.values()].map(({id, group}) => [id, group.id]),
  };
}"""


async def test_the_parts_that_only_compute_do_so_rightly(desk: Desk) -> None:
    async with in_this_process() as (url, _):
        await desk.open(url)
        found = await desk.page.evaluate(PIECES)
    assert found["parsed"] == [
        {"id": "1-0-0", "event": "x", "data": "{}"},
        {"event": "reset", "data": "{}"},
    ]
    assert found["story"] == [
        ["a", 1, 0, 9, "started", "moved", "process died"],
        [None, 1, 9, 10, "waiting", "found", "takeover"],
        ["b", 3, 10, 20, "takeover", "completed", "completed"],
    ]
    assert found["p50"] == [55, None, 5], "between two readings; nothing measured; started anew"
    assert found["renewals"] == [24.5, None], "a gap where /metrics could not be read"
    assert found["counted"] == [1, 0], "only the last fifteen minutes are kept"
    assert found["quantiles"] == [None, 2, 7]
    assert found["sessions"] == [["kept", "a"]], "moved was not listed again: it is gone"


CONTRASTS = """() => {
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => rgb(colour).slice(0, 3)
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (colour.startsWith("rgb") && (rgb(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  for (const node of document.querySelectorAll("h1, h2, h3, p, dt, dd, small, button, li, figcaption span")) {
    if (!node.checkVisibility() || ![...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim())) continue;
    const [high, low] = [luminance(getComputedStyle(node).color), luminance(behind(node))].sort((a, b) => b - a);
    found[node.textContent.trim().slice(0, 60)] = (high + 0.05) / (low + 0.05);
  }
  return found;
}"""


async def test_words_stand_out_in_light_and_dark_and_every_field_has_a_name(desk: Desk) -> None:
    async with in_this_process() as (url, store):
        await start_call(store, "one", await owner_of(store, "alpha", slots=10))
        await desk.open(url)
        await expect(desk.card("alpha").locator(".used")).to_have_text("1 / 10")
        for scheme in ("light", "dark"):
            await desk.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = await desk.page.evaluate(CONTRASTS)
            assert len(found) > 20
            assert {what: ratio for what, ratio in found.items() if ratio < 4.5} == {}, scheme
        unnamed = await desk.page.evaluate(
            "[...document.querySelectorAll('button, input, canvas, meter')].filter((node) => "
            "node.checkVisibility() && "
            "!(node.ariaLabel || node.textContent.trim() || node.labels?.length)).map((node) => node.outerHTML)"
        )
        assert unnamed == []
