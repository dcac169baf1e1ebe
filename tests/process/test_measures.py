"""The promises in figures: the real programs as processes, a real redis-server, real signals."""

import asyncio
import time
from collections import Counter

import pytest
from harness.api import Api, Sampler, since
from harness.handlers import read_journal
from harness.puppets import running
from harness.stopwatch import Stopwatch
from harness.waiting import eventually

pytestmark = pytest.mark.redis

COUNTING = ("--app", "harness.handlers:count")


SOON_S = 20.0
"""A deadline for what should come; how soon it has to come is asserted apart."""


def names(count: int, prefix: str = "call") -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


async def start(
    fleet, http, *, workers=("w1", "w2", "w3"), slots=100, arguments=(), balancing=(), shared=()
) -> tuple:
    """Start a whole system and return its balancer's face, and the workers by id."""
    started, balancer, _ = await asyncio.gather(
        fleet.workers(*workers, slots=slots, arguments=(*shared, *arguments)),
        fleet.balancer(*shared, *balancing),
        fleet.watchdog(*shared),
    )
    api = Api(http, balancer.url)
    await eventually(api.instances, 5, until=lambda found: len(found) == len(workers))

    async def balancer_sees() -> float:
        return await api.gauge("instances")

    await eventually(balancer_sees, 5, until=lambda seen: seen == len(workers))
    return api, dict(zip(workers, started, strict=True))


@pytest.mark.slow
async def test_two_hundred_calls_all_run_and_no_worker_is_ever_above_its_slots(fleet, http):
    api, workers = await start(fleet, http)
    sampler = Sampler({name: Api(http, worker.url) for name, worker in workers.items()}, "sessions")
    async with running(sampler.run()):
        answers = await api.submit_all(names(200))
        assert {answer.status for answer in answers} == {201}
        with Stopwatch() as watch:
            await eventually(api.owners, SOON_S, until=lambda owners: len(owners) == 200, every_s=0.1)
        watch.assert_within(5.0, "the last of 200 had an owner")
        await eventually(
            lambda: sum(sampler.highest.values()),
            SOON_S,
            until=lambda seen: seen >= 200,
            about="each call was seen on a worker",
        )
        await eventually(lambda: sampler.samples, SOON_S, until=lambda samples: samples > 3)
    assert max(sampler.highest.values()) <= 100, sampler.highest


@pytest.mark.slow
async def test_more_calls_than_slots_wait_and_no_worker_is_ever_above_its_slots(fleet, http):
    api, workers = await start(fleet, http, slots=10)
    sampler = Sampler({name: Api(http, worker.url) for name, worker in workers.items()}, "sessions")
    async with running(sampler.run()):
        answers = await api.submit_all(names(50))
        assert {answer.status for answer in answers} == {201}
        await eventually(api.owners, SOON_S, until=lambda owners: len(owners) == 30, every_s=0.1)
    assert max(sampler.highest.values()) <= 10, sampler.highest


async def fill(api: Api, count: int, owner: str, workers: dict, *, metadata=None) -> list[str]:
    """Submit calls straight to one worker, so that it owns them all."""
    call_ids = names(count)
    answers = await Api(api.client, workers[owner].url).submit_all(call_ids, metadata)
    assert {answer.body["owner"] for answer in answers} == {owner}
    return call_ids


def starts_elsewhere(journal, dead: str, since_s: float) -> dict[str, float]:
    """Return when each call first started on another instance after ``since_s``."""
    started: dict[str, float] = {}
    for entry in read_journal(journal):
        if entry.what == "start" and entry.instance_id != dead and entry.at_s >= since_s:
            started.setdefault(entry.call_id, entry.at_s)
    return started


async def all_start_elsewhere(journal, dead: str, since_s: float, call_ids: list[str]) -> dict[str, float]:
    """Wait until each of these calls started on another instance; seldom, for looking takes the programs' time."""
    return await eventually(
        lambda: starts_elsewhere(journal, dead, since_s),
        SOON_S,
        until=lambda found: found.keys() >= set(call_ids),
        every_s=0.1,
    )


async def test_a_killed_worker_s_hundred_calls_run_elsewhere_within_a_second(fleet, http, journal):
    api, workers = await start(fleet, http, arguments=COUNTING, shared=("--lease-ttl", "10"))
    call_ids = await fill(api, 100, "w1", workers, metadata={"every_s": 0.5})
    with Stopwatch() as watch:
        workers["w1"].kill()
        started = await all_start_elsewhere(journal, "w1", watch.began_s, call_ids)
    watch.assert_within(1.0, "the last of 100 ran again", at_s=max(started.values()))
    assert set((await api.owners()).values()) == {"w2", "w3"}
    kinds = Counter(event["event"] for event in await api.history(call_ids[0]))
    assert kinds["session.takeover"] == 1


@pytest.mark.slow
async def test_a_stopped_worker_loses_its_calls_within_the_lease_and_writes_nothing_after(
    fleet, http, journal
):
    ttl_s = 3.0
    api, workers = await start(fleet, http, arguments=COUNTING, shared=("--lease-ttl", str(ttl_s)))
    call_ids = await fill(api, 50, "w1", workers, metadata={"every_s": 0.2})
    await eventually(
        lambda: {entry.call_id for entry in read_journal(journal) if entry.what == "write"},
        5,
        until=lambda found: found == set(call_ids),
    )
    with Stopwatch() as watch:
        workers["w1"].stop()
        started = await all_start_elsewhere(journal, "w1", watch.began_s, call_ids)
    watch.assert_within(
        ttl_s + 0.5, "the last of 50 ran again", at_s=max(started.values()), idle_s=ttl_s - 0.5
    )

    continued_s = time.monotonic()
    workers["w1"].cont()
    newer = {entry.call_id: entry for entry in read_journal(journal) if entry.instance_id != "w1"}

    def ended_there() -> set[str]:
        return {
            entry.call_id
            for entry in read_journal(journal)
            if entry.what == "end" and entry.instance_id == "w1" and entry.at_s > continued_s
        }

    await eventually(ended_there, SOON_S, until=lambda found: found == set(call_ids))
    for entry in read_journal(journal):
        if entry.what == "write" and entry.instance_id == "w1" and entry.asked_s > continued_s:
            assert entry.fence > newer[entry.call_id].fence, f"written with an old fence: {entry}"


@pytest.mark.slow
async def test_a_terminated_worker_hands_all_its_calls_off_within_a_second_and_none_goes_back(
    fleet, http, journal
):
    api, workers = await start(fleet, http, arguments=COUNTING)
    call_ids = await fill(api, 100, "w1", workers, metadata={"every_s": 0.5})
    await eventually(
        lambda: {entry.call_id for entry in read_journal(journal) if entry.what == "write"},
        5,
        until=lambda found: found == set(call_ids),
    )
    with Stopwatch() as watch:
        workers["w1"].terminate()
        started = await all_start_elsewhere(journal, "w1", watch.began_s, call_ids)
    watch.assert_within(1.0, "the last of 100 ran elsewhere", at_s=max(started.values()))
    assert await workers["w1"].ended() == 0
    counted: dict[str, int] = {}
    for entry in read_journal(journal):
        if entry.what == "start":
            assert entry.count >= counted.get(entry.call_id, 0), f"it went back: {entry}"
        elif entry.what == "write":
            counted[entry.call_id] = max(counted.get(entry.call_id, 0), entry.count)
    kinds = Counter(event["event"] for event in await api.history(call_ids[0]))
    assert kinds["session.handoff"] == 1
    assert kinds["session.takeover"] == 0


# -- saturation -----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_with_all_workers_full_the_next_call_runs_as_soon_as_a_slot_is_free(fleet, http):
    api, _ = await start(fleet, http, workers=("w1", "w2"), slots=2)
    await api.submit_all(names(4))
    waiting = await api.submit("next")
    assert (waiting.status, waiting.body["state"], waiting.body["owner"]) == (201, "pending", None)
    with Stopwatch() as watch:
        assert await api.end("call-1") == 204
        await eventually(
            lambda: api.call("next"), SOON_S, until=lambda call: call["state"] == "active", every_s=0.01
        )
    watch.assert_within(0.5, "the next call ran")


@pytest.mark.slow
async def test_with_admission_reject_a_full_system_refuses_and_says_when_to_come_again(fleet, http):
    reject = ("--admission", "reject")
    api, _ = await start(fleet, http, workers=("w1",), slots=2, arguments=reject, balancing=reject)
    await api.submit_all(names(2))
    answer = await api.submit("one-too-many")
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "slot" in answer.body["detail"]
    assert (await api.ask("GET", "/calls/one-too-many")).status == 404


@pytest.mark.slow
async def test_max_pending_bounds_the_queue(fleet, http):
    api, _ = await start(fleet, http, workers=("w1",), slots=1, arguments=("--max-pending", "3"))
    first, *others = names(6)
    answers = [await api.submit(first)]
    # Until the registry shows the slot as taken, one that waits may be on its way to it, and does not wait then.
    await eventually(api.instances, 5, until=lambda found: found["w1"]["used"] == 1)
    answers += [await api.submit(name) for name in others]
    assert [answer.status for answer in answers] == [201] * 4 + [503] * 2
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert "max_pending" in answers[-1].body["detail"]
    assert len(await api.calls("pending")) == 3


@pytest.mark.slow
async def test_without_any_worker_the_answer_says_so_and_a_repeat_succeeds_once_one_is_there(fleet, http):
    balancer, _ = await asyncio.gather(fleet.balancer(), fleet.watchdog())
    api = Api(http, balancer.url)
    answer = await api.submit("call", key="one")
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "instance" in answer.body["detail"]
    await fleet.worker("late")
    repeated = await eventually(
        lambda: api.submit("call", key="one"), 5, until=lambda found: found.status == 201
    )
    assert repeated.body["owner"] == "late"


# -- Redis away -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_while_redis_is_away_the_answer_says_so_and_nothing_that_runs_is_lost(
    fleet, http, redis_server, journal, how
):
    api, _ = await start(fleet, http, arguments=COUNTING, shared=("--lease-ttl", "3"))
    await api.submit_all(names(20), {"every_s": 0.3})
    before = await eventually(api.owners, 5, until=lambda owners: len(owners) == 20)
    away_s = time.monotonic()
    if how == "frozen":
        redis_server.freeze()
    else:
        redis_server.stop()
    answer = await eventually(
        lambda: api.submit("during", key="during"), 20, until=lambda found: found.status == 503
    )
    assert "Redis" in answer.body["detail"]
    assert int(answer.headers["Retry-After"]) >= 1
    await eventually(lambda: since(away_s) > 3.5, 5, about="longer than a lease")
    if how == "frozen":
        redis_server.thaw()
    else:
        redis_server.start()
    after = await eventually(
        api.owners, 10, until=lambda owners: owners.keys() >= before.keys(), about="all calls are owned again"
    )
    assert {name: owner for name, owner in after.items() if name in before} == before, "a storm of takeovers"
    repeated = await eventually(
        lambda: api.submit("during", key="during"), 5, until=lambda found: found.status in (200, 201)
    )
    assert repeated.body["callId"] == "during"
    watched_s = time.monotonic()
    await eventually(lambda: since(watched_s) > 3.5, 5, about="another lease")
    assert {name: owner for name, owner in (await api.owners()).items() if name in before} == before
