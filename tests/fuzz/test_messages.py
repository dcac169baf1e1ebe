"""Whoever can publish can neither crash nor misdirect anything: messages are hints, and Redis' records decide."""

import asyncio
import random
from contextlib import asynccontextmanager

import pytest
import redis
from harness.puppets import create_call
from harness.waiting import eventually

from mediaflow.loadbalancer.roster import Roster
from mediaflow.runtime.clock import SystemClock
from mediaflow.runtime.reception import REFUSALS_AT_ONCE
from mediaflow.settings import Settings
from mediaflow.store import open_store

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("no_fault_logged")]

KINDS = (
    b"assign",
    b"hint",
    b"cancel",
    b"",
    b"ASSIGN",
    b"assign ",
    b"\xff",
    b"pending",
    b"instances",
    b"resync",
)
PARTS = (
    b"call-1", b"", b"..", b"x" * 200, b"a/b", b"\xff\xfe", b"\x00", b"018bcfe56800-000-0000000000", b"018bcfe56800",
    b"0", b"1", b"-1", b"1.5", b"1e9", b"nan", b"9" * 16, b"9" * 5000, "٣".encode(), "²".encode(), b"+1", b"1_0", b"{",
    b"*",
)  # fmt: skip


def junk(rng: random.Random) -> bytes:
    """Return a message that is nearly one of ours, or nothing like it."""
    if rng.random() < 0.2:
        return rng.randbytes(rng.randint(0, 200))
    items = [
        b"/".join(rng.choices(PARTS, k=rng.choice((1, 3, 4, 4, 4, 5))))
        for _ in range(rng.choice((0, 1, 1, 5, 300)))
    ]
    return b" ".join([rng.choice(KINDS), *items])


class Stage:
    """One instance whose handler counts its runs, the store, and somebody who publishes."""

    def __init__(self, cluster, instance, started, publish) -> None:
        self.cluster, self.instance, self.started, self._publish = cluster, instance, started, publish
        self.store = cluster.store

    def tell(self, message: bytes | str, to: str = "inbox:alpha") -> int:
        """Publish; returns how many heard it."""
        return self._publish(f"{self.cluster.settings.namespace}:{to}", message)

    async def takes_calls(self, call_id: str) -> None:
        """Fails unless all works as ever: a call is placed, runs, and is ended."""
        running = self.instance.running
        answer = await self.cluster.submit("alpha", call_id)
        await eventually(lambda: call_id in self.started, 10)
        assert answer.owner == "alpha"
        assert await self.instance.end(call_id, "test")
        await eventually(lambda: self.instance.running == running, 10)


@pytest.fixture
async def stage(redis_server):
    from harness.cluster import Cluster

    settings = Settings(redis_url=redis_server.url, namespace="fuzz", lease_ttl=3.0, accept_ttl=1.0)
    started: list[str] = []

    async def handler(session) -> None:
        started.append(session.call_id)
        await asyncio.Event().wait()

    @asynccontextmanager
    async def opened():
        store = await open_store(settings)
        raw = redis.Redis.from_url(redis_server.url)
        try:
            async with Cluster(store, settings) as cluster:
                instance = await cluster.instance("alpha", handler, slots=3)
                found = Stage(cluster, instance, started, raw.publish)
                await eventually(lambda: found.tell("hint nobody"), 10, about="alpha listens")
                yield found
        finally:
            raw.close()
            await store.close()

    async with opened() as found:
        yield found


async def test_junk_in_the_inbox_is_dropped(stage):
    rng = random.Random(7)
    for _ in range(400):
        assert stage.tell(junk(rng)) == 1, "it stopped listening"
        await asyncio.sleep(0)  # Redis drops a listener that does not keep up, whatever is said
    await stage.takes_calls("after")
    assert stage.started == ["after"]


async def test_a_flood_of_forged_assignments_costs_a_bounded_number_of_answers(stage):
    most = 0
    for number in range(20):
        offers = (
            f"call/018bcfe56800-000-{number:04x}{n:06x}/{stage.instance.incarnation}/7" for n in range(200)
        )
        assert stage.tell(" ".join(["assign", *offers])) == 1, "it stopped listening"
        for _ in range(20):
            await asyncio.sleep(0.001)
            answers = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
            most = max(most, answers.count("Reception._refuse_assignment"))
    assert 0 < most <= REFUSALS_AT_ONCE
    await eventually(lambda: stage.instance.used == 0, 10, about="the slots are free again")
    await stage.takes_calls("after")


async def test_junk_in_the_hints_is_dropped_by_watchdog_and_balancer(stage):
    watchdog = await stage.cluster.watchdog()
    roster = Roster(stage.store, SystemClock(), random.Random(1))
    rng = random.Random(8)
    async with asyncio.TaskGroup() as tasks:
        balancing = tasks.create_task(roster.run())
        await eventually(lambda: stage.tell("pending", to="hints") >= 2, 10, about="both listen")
        for _ in range(400):
            assert stage.tell(junk(rng), to="hints") >= 2
            await asyncio.sleep(0)
        await create_call(stage.store, "waiting")
        await eventually(lambda: "waiting" in stage.started, 10)
        assert not watchdog.problem
        assert not roster.problem
        assert [
            record.instance_id for record in roster.live()
        ] == []  # it has no address, and no hint gives it one
        balancing.cancel()


async def test_what_scripts_do_not_say_is_no_news_at_all(stage):
    changes = stage.store.changes()
    try:
        assert (await anext(changes)).what == "resync"
        for message in (b"\xff", b"", b"resync", b"instances ", b"x" * 100_000, b"PENDING", b"pending"):
            stage.tell(message, to="hints")
        async with asyncio.timeout(10):
            assert (await anext(changes)).what == "pending"
    finally:
        await changes.aclose()


async def owner_of(stage, call_id: str):
    found = await stage.store.describe(call_id)
    assert found is not None
    [session] = found.sessions
    return session.state, session.instance_id, session.fence


async def test_a_forged_assignment_of_a_pending_session_starts_nothing(stage):
    made = await create_call(stage.store, "waiting")
    before = await owner_of(stage, "waiting")
    for incarnation in (stage.instance.incarnation, 0, 1, stage.instance.incarnation + 1):
        for fence in (0, made.fence, made.fence + 1, 2**53, 10**16 - 1):
            stage.tell(f"assign waiting/{made.session_id}/{incarnation}/{fence}")
    await stage.takes_calls("after")
    assert stage.started == ["after"]
    assert await owner_of(stage, "waiting") == before


async def test_a_forged_assignment_of_another_instances_session_starts_nothing(stage):
    async def idle(_session) -> None:
        await asyncio.Event().wait()

    beta = await stage.cluster.instance("beta", idle)
    answer = await stage.cluster.submit("beta", "theirs")
    for incarnation in (stage.instance.incarnation, beta.incarnation):
        for fence in (0, answer.fence, answer.fence + 1):
            stage.tell(f"assign theirs/{answer.session_id}/{incarnation}/{fence}")
            stage.tell(f"assign theirs/{answer.session_id}/{incarnation}/{fence}", to="inbox:beta")
            stage.tell(f"assign other/{answer.session_id}/{incarnation}/{fence}")
    stage.tell(f"hint {answer.session_id}", to="inbox:beta")
    await stage.takes_calls("after")
    assert stage.started == ["after"]
    assert await owner_of(stage, "theirs") == ("active", "beta", answer.fence)
    assert beta.running == 1


async def test_a_forged_assignment_of_a_session_that_runs_here_changes_nothing(stage):
    answer = await stage.cluster.submit("alpha", "mine")
    await eventually(lambda: stage.started == ["mine"], 10)
    for fence in (0, answer.fence - 1, answer.fence, answer.fence + 1):
        stage.tell(f"assign mine/{answer.session_id}/{stage.instance.incarnation}/{fence}")
    await stage.takes_calls("after")
    assert stage.started == ["mine", "after"]
    assert await owner_of(stage, "mine") == ("active", "alpha", answer.fence)


async def test_a_flood_of_forged_assignments_does_not_keep_real_calls_out(stage):
    flood = " ".join(
        f"call-{n}/018bcfe56800-000-{n:010x}/{stage.instance.incarnation}/7" for n in range(3000)
    )
    stage.tell(f"assign {flood}")
    await asyncio.sleep(0)
    answer = await stage.cluster.submit("alpha", "real")
    watchdog = await stage.cluster.watchdog()
    await eventually(lambda: "real" in stage.started, 10)
    assert answer.created
    assert stage.started == ["real"]
    assert not watchdog.problem
    assert (await stage.store.pending()) == 0


async def test_a_damaged_record_ends_neither_the_instance_nor_its_other_sessions(stage, redis_server, logged):
    await stage.cluster.submit("alpha", "healthy")
    made = await create_call(stage.store, "damaged")
    with redis.Redis.from_url(redis_server.url) as raw:
        for key in raw.keys("fuzz:*:call:damaged"):
            raw.hset(key, f"s:{made.session_id}", "nonsense")
    stage.tell(f"assign damaged/{made.session_id}/{stage.instance.incarnation}/{made.fence}")
    await eventually(lambda: [line for line in logged() if "session.not_accepted" in line], 10)
    assert stage.instance.ready
    assert stage.instance.running == 1
    await stage.takes_calls("after")
