"""Placing a call: whom the balancer asks, what it passes on, and what it counts."""

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import msgspec
import pytest
from harness.surfaces import (
    active,
    client_of,
    conflict,
    draining,
    found,
    full,
    own_settings,
    own_store,
    pending,
    pretend_instance,
    problem,
    report,
    silent,
    store_away,
    unauthorized,
    unwilling,
)
from harness.waiting import eventually

from mediaflow.loadbalancer.app import surface
from mediaflow.loadbalancer.balancer import Balancer
from mediaflow.loadbalancer.courier import HttpCourier
from mediaflow.loadbalancer.drainer import Drainer
from mediaflow.loadbalancer.roster import Roster
from mediaflow.web.events import EventFeed


class HandClock:
    """A clock that a test moves."""

    now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return 0


class Stage:
    """A balancer in front of pretended instances."""

    def __init__(self, store, roster, client, clock):
        self.store, self.roster, self.client, self.clock = store, roster, client, clock

    async def joins(self, instance, **about):
        said = msgspec.structs.replace(report(instance.name, **about), address=instance.address)
        await self.store.heartbeat(said)
        await self.roster.refresh()

    async def post(self, call_id="call-1", **options):
        answer = await self.client.post(f"/calls/{call_id}", **options)
        return answer, await answer.json()


@asynccontextmanager
async def staged(try_timeout_s=5.0, **settings):
    about = own_settings(**settings)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(own_store(about))
        clock = HandClock()
        roster = Roster(store, clock, random.Random(7))
        await roster.refresh()
        outward = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=try_timeout_s))
        )
        courier = HttpCourier(outward, about.api_token)
        balancer = Balancer(roster, courier, about.admission)
        face = surface(balancer, roster, store, about, EventFeed(store), Drainer(store, courier))
        client = await stack.enter_async_context(client_of(face.application()))
        yield Stage(store, roster, client, clock)


@pytest.fixture
async def stage():
    async with staged() as opened:
        yield opened


async def test_an_answer_is_passed_on_as_it_is(stage):
    async with pretend_instance("a", active, found, conflict) as a:
        await stage.joins(a)
        answer, told = await stage.post(json={"room": 7}, headers={"Idempotency-Key": "k1"})
        assert answer.status == 201
        assert told["owner"] == "a"
        assert set(told) == {"callId", "sessionId", "state", "owner", "fence", "created"}
        assert a.asked[0].slot_only
        assert a.asked[0].headers["Idempotency-Key"] == "k1"
        assert msgspec.json.decode(a.asked[0].body) == {"room": 7}
        answer, told = await stage.post()
        assert (answer.status, told["created"]) == (200, False)
        answer, told = await stage.post()
        assert answer.status == 422
        assert answer.content_type == "application/problem+json"
        assert told["detail"] == "the key was used with another body"


async def test_a_full_instance_is_passed_over_for_one_with_room(stage):
    async with pretend_instance("a", full) as a, pretend_instance("b", full) as b, pretend_instance("c") as c:
        for instance in (a, b, c):
            await stage.joins(instance)
        answer, told = await stage.post()
        assert (answer.status, told["owner"]) == (201, "c")
        assert len(a.asked) <= 1
        assert len(b.asked) <= 1


async def test_with_no_free_slot_anywhere_a_live_instance_queues_the_call(stage):
    async with pretend_instance("a", pending) as a:
        await stage.joins(a, slots=2, used=2)
        answer, told = await stage.post()
        assert (answer.status, told["state"], told["owner"]) == (201, "pending", None)
        assert [asked.slot_only for asked in a.asked] == [False]


async def test_an_overloaded_instance_is_given_no_slot_and_may_queue(stage):
    async with pretend_instance("a", pending) as a, pretend_instance("b") as b:
        said = msgspec.structs.replace(report("a"), address=a.address, load=0.97, overloaded=True)
        await stage.store.heartbeat(said)
        await stage.joins(b, slots=1)
        answer, told = await stage.post("call-1")
        assert (answer.status, told["owner"]) == (201, "b")
        assert not [asked for asked in a.asked if asked.slot_only]
        shown = (await (await stage.client.get("/instances")).json())["instances"]
        assert [(one["slots"], one["used"], one["load"], one["overloaded"]) for one in shown] == [
            (10, 0, 0.97, True),
            (1, 0, None, False),
        ]


async def test_a_call_goes_to_the_one_instance_that_wants_it_however_many_do_not(stage):
    async with AsyncExitStack() as stack:
        reluctant = [
            await stack.enter_async_context(pretend_instance(f"no-{n}", *[unwilling] * 9)) for n in range(8)
        ]
        willing = await stack.enter_async_context(pretend_instance("yes", full, pending))
        for instance in (*reluctant, willing):
            await stage.joins(instance)
        answer, told = await stage.post()
        assert (answer.status, told["state"]) == (201, "pending"), "full, but the one that would take it"
        assert [len(instance.asked) for instance in reluctant] == [1] * 8, "none is asked twice"


async def test_a_call_that_nobody_wants_is_answered_with_a_reason_and_when_to_come_again(stage):
    async with pretend_instance("a", unwilling) as a, pretend_instance("b", unwilling) as b:
        for instance in (a, b):
            await stage.joins(instance)
        answer, told = await stage.post()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert told["detail"].endswith("does not want it")
        assert [len(a.asked), len(b.asked)] == [1, 1]


async def test_an_instance_that_filled_up_meanwhile_queues_the_call(stage):
    async with pretend_instance("a", full, pending) as a:
        await stage.joins(a)
        answer, told = await stage.post()
        assert (answer.status, told["state"]) == (201, "pending")
        assert [asked.slot_only for asked in a.asked] == [True, False]
        assert len({asked.headers["Idempotency-Key"] for asked in a.asked}) == 1


async def test_with_admission_reject_no_call_is_queued():
    async with staged(admission="reject") as stage, pretend_instance("a", full, full) as a:
        await stage.joins(a, slots=2, used=2)
        answer, told = await stage.post()
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "7"
        assert "a has no free slot" in told["detail"]
        assert all(asked.slot_only for asked in a.asked)


async def test_a_full_queue_is_a_503_with_retry_after(stage):
    async with pretend_instance("a", full, full, full, full) as a:
        await stage.joins(a)
        answer, _ = await stage.post()
        assert answer.status == 503
        assert "Retry-After" in answer.headers


async def test_an_instance_cut_off_from_redis_is_passed_over_for_one_that_is_not(stage):
    async with pretend_instance("a", store_away) as a, pretend_instance("b") as b:
        await stage.joins(a, slots=1000)
        await stage.joins(b, slots=1)
        answer, told = await stage.post()
        assert (answer.status, told["owner"]) == (201, "b")


async def test_with_redis_away_the_client_does_not_wait_for_every_instance_to_say_so(stage):
    async with AsyncExitStack() as stack:
        cut_off = [await stack.enter_async_context(pretend_instance(name, store_away)) for name in "abcd"]
        for instance in cut_off:
            await stage.joins(instance)
        answer, told = await stage.post()
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert "cannot reach Redis" in told["detail"]
        assert sum(len(instance.asked) for instance in cut_off) == 2


async def test_without_any_instance_the_answer_says_so(stage):
    answer, told = await stage.post()
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert "no instance is live" in told["detail"]


async def test_draining_and_embedded_instances_are_never_asked(stage):
    async with pretend_instance("a") as a:
        await stage.joins(a, state="draining")
        await stage.store.heartbeat(report("embedded", address=""))
        await stage.roster.refresh()
        answer, told = await stage.post()
        assert answer.status == 503
        assert "no instance is live" in told["detail"]
        assert not a.asked


async def test_a_refused_connection_costs_nothing_but_the_next_try(stage):
    async with pretend_instance("gone") as gone:
        await stage.joins(gone, slots=1_000_000)
    async with pretend_instance("b") as b:
        await stage.joins(b, slots=1)
        answer, told = await stage.post()
        assert (answer.status, told["owner"]) == (201, "b")
        assert {record.instance_id for record in stage.roster.live()} == {"b"}


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(stage):
    async with pretend_instance("a", silent) as a, pretend_instance("b", silent) as b:
        await stage.joins(a)
        await stage.joins(b)
        answer, _ = await stage.post()
        assert answer.status == 201
        keys = {asked.headers["Idempotency-Key"] for asked in (*a.asked, *b.asked)}
        assert len(keys) == 1
        assert len(a.asked) + len(b.asked) == 3
        answer, _ = await stage.post("call-2")
        assert {asked.headers["Idempotency-Key"] for asked in (*a.asked, *b.asked)} != keys


async def hanging(instance, request, asked):
    del instance, request, asked
    await asyncio.sleep(30)


async def test_when_nobody_answers_the_client_learns_that_it_may_have_happened():
    async with staged(try_timeout_s=0.2) as stage, pretend_instance("a", *[hanging] * 9) as a:
        await stage.joins(a)
        answer, told = await stage.post()
        assert answer.status == 503
        assert "may or may not" in told["detail"]
        assert "Idempotency-Key" in told["detail"]
        assert 2 <= len(a.asked) <= 4
        assert len({asked.headers["Idempotency-Key"] for asked in a.asked}) == 1


async def test_a_burst_is_spread_by_what_is_on_its_way(stage):
    async with pretend_instance("a") as a, pretend_instance("b") as b, pretend_instance("c") as c:
        for instance in (a, b, c):
            await stage.joins(instance, slots=4)
        await asyncio.gather(*(stage.post(f"call-{n}") for n in range(12)))
        assert [len(instance.asked) for instance in (a, b, c)] == [4, 4, 4]
        assert all(asked.slot_only for instance in (a, b, c) for asked in instance.asked)


async def test_a_placement_counts_until_a_later_heartbeat_shows_it(stage):
    async with pretend_instance("a", active, found, full) as a:
        await stage.joins(a, slots=3)
        assert stage.roster.free() == 3
        await stage.post()
        assert stage.roster.free() == 2
        await stage.post()  # found: it took no slot
        assert stage.roster.free() == 2
        await stage.roster.refresh()  # the same old heartbeat
        assert stage.roster.free() == 2
        stage.clock.now_s += 1.0
        await stage.joins(a, slots=3, used=1)
        assert stage.roster.free() == 2


async def test_a_client_that_leaves_leaves_nothing_half_counted(stage):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(instance, request, asked):
        begun.set()
        await go_on.wait()
        return await pending(instance, request, asked)

    async with pretend_instance("a", slow) as a:
        await stage.joins(a, slots=3)
        asking = asyncio.ensure_future(stage.post())
        await begun.wait()
        assert stage.roster.free() == 2
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        go_on.set()

        async def beats_again():
            stage.clock.now_s += 1.0
            await stage.joins(a, slots=3)
            return stage.roster.free() == 3

        await eventually(beats_again, 5)


async def test_a_suspect_is_asked_again_once_it_beats(stage):
    async with pretend_instance("a") as a:
        await stage.joins(a)
        stage.roster.suspect("a")
        assert not stage.roster.live()
        await stage.roster.refresh()
        assert not stage.roster.live()
        stage.clock.now_s += 1.0
        await stage.joins(a)
        assert [record.instance_id for record in stage.roster.live()] == ["a"]


async def test_an_instance_is_drained_at_its_own_address_with_the_token():
    async with staged(api_token="s3cret") as stage, pretend_instance("a", draining) as a:
        await stage.joins(a)
        assert (await stage.client.post("/instances/a/drain")).status == 401
        assert not a.asked
        answer = await stage.client.post("/instances/a/drain", headers={"Authorization": "Bearer s3cret"})
        assert (answer.status, (await answer.json())["state"]) == (202, "draining")
        assert a.asked[0].headers["Authorization"] == "Bearer s3cret"


async def test_an_instance_that_drains_already_is_asked_again(stage):
    async with pretend_instance("a", draining) as a:
        await stage.joins(a, state="draining")
        assert (await stage.client.post("/instances/a/drain")).status == 202
        assert len(a.asked) == 1


async def test_an_instance_that_is_not_known_cannot_be_drained(stage):
    async with pretend_instance("a") as a:
        await stage.joins(a)
        answer = await stage.client.post("/instances/b/drain")
        assert answer.status == 404
        assert "'b'" in (await answer.json())["detail"]
        assert not a.asked


@pytest.mark.parametrize(
    ("answered", "told"),
    [(silent, "may or may not"), (unauthorized, "MEDIAFLOW_API_TOKEN"), (full, "status 503")],
)
async def test_an_instance_that_does_not_say_it_drains_is_503(stage, answered, told):
    async with pretend_instance("a", answered) as a:
        await stage.joins(a)
        answer = await stage.client.post("/instances/a/drain")
        assert answer.status == 503
        assert "Retry-After" in answer.headers
        assert told in (await answer.json())["detail"]


async def test_an_instance_that_cannot_be_reached_is_503_with_its_address(stage):
    async with pretend_instance("gone") as gone:
        await stage.joins(gone)
    answer = await stage.client.post("/instances/gone/drain")
    assert answer.status == 503
    assert gone.address in (await answer.json())["detail"]


async def test_an_embedded_instance_is_drained_by_its_program_and_the_answer_says_so(stage):
    await stage.store.heartbeat(report("embedded", address=""))
    answer = await stage.client.post("/instances/embedded/drain")
    assert answer.status == 503
    assert "program" in (await answer.json())["detail"]


async def test_the_token_is_asked_for_and_passed_on():
    async with staged(api_token="s3cret") as stage, pretend_instance("a") as a:
        await stage.joins(a)
        answer, _ = await stage.post()
        assert answer.status == 401
        assert not a.asked
        answer, _ = await stage.post(headers={"Authorization": "Bearer s3cret"})
        assert answer.status == 201
        assert a.asked[0].headers["Authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    ("call_id", "options", "status"),
    [
        ("a%20b", {}, 400),
        ("x", {"data": b"[1]"}, 400),
        ("x", {"data": b"{" * 10}, 400),
        ("x", {"data": b" " * 65_537}, 413),
        ("x", {"headers": {"Idempotency-Key": "a b"}}, 400),
    ],
)
async def test_bad_requests_reach_no_instance(stage, call_id, options, status):
    from yarl import URL

    async with pretend_instance("a") as a:
        await stage.joins(a)
        answer = await stage.client.post(URL(f"/calls/{call_id}", encoded=True), **options)
        assert answer.status == status
        assert answer.content_type == "application/problem+json"
        assert not a.asked


async def test_gauges_show_saturation(stage):
    async with pretend_instance("a") as a:
        await stage.joins(a, slots=3, used=1)
        text = await (await stage.client.get("/metrics")).text()
    for line in (
        "instances 1.0",
        "fleet_slots 3.0",
        "fleet_used_slots 1.0",
        "fleet_free_slots 2.0",
        "ready 1.0",
    ):
        assert f"mediaflow_{line}" in text


async def test_renewals_of_the_fleet_are_added_up_with_those_of_draining_instances(stage):
    async with pretend_instance("a") as a, pretend_instance("b") as b:
        for instance, state, rate in ((a, "ready", 20.5), (b, "draining", 4.0)):
            said = msgspec.structs.replace(
                report(instance.name), address=instance.address, state=state, renewals_per_s=rate
            )
            await stage.store.heartbeat(said)
        await stage.roster.refresh()
        assert "mediaflow_fleet_renewals_per_second 24.5" in await (await stage.client.get("/metrics")).text()


async def test_a_reading_that_grows_old_is_not_ready(stage):
    assert (await stage.client.get("/readyz")).status == 200
    stage.clock.now_s += 60
    answer = await stage.client.get("/readyz")
    assert answer.status == 503
    assert "60 s ago" in (await answer.json())["detail"]


async def test_whom_a_call_counts_for_is_passed_on_and_so_is_the_refusal(stage):
    async def refused(_instance, _request, _asked):
        return problem(409, "one stream too many")

    async with pretend_instance("a", refused) as a, pretend_instance("b", refused) as b:
        for instance in (a, b):
            await stage.joins(instance)
        answer, told = await stage.post(headers={"Mediaflow-Account": "J%C3%BCrgen 2"})
        assert (answer.status, told["detail"]) == (409, "one stream too many")
        [asked] = a.asked + b.asked
        assert asked.headers["Mediaflow-Account"] == "J%C3%BCrgen%202"


@pytest.mark.parametrize("account", ["", "%0A", "%zz", "%FF", "x" * 257])
async def test_an_account_that_cannot_be_one_is_refused_at_once(stage, account):
    async with pretend_instance("a") as a:
        await stage.joins(a)
        answer, told = await stage.post(headers={"Mediaflow-Account": account})
        assert (answer.status, a.asked) == (400, [])
        assert "Mediaflow-Account" in told["detail"]
