"""A reply that is lost on its way back from Redis: what was asked is asked again, and happens once."""

import asyncio
import collections
from dataclasses import dataclass

import pytest
from harness.proxied import ProxiedCluster, Witness
from harness.proxy import Proxy
from harness.puppets import Puppet, create_call
from harness.waiting import eventually

from mediaflow.store import Claim, Grant, Held, InstanceReport, NewSession, SessionRef, Store
from mediaflow.store.scripts import load

pytestmark = pytest.mark.redis

WITHIN_S = 10.0


@dataclass
class Bench:
    """A puppet and a call of its own, asked of directly; ``far`` is behind the proxy that loses the reply."""

    cluster: ProxiedCluster
    far: Store
    near: Store
    puppet: Puppet

    async def own(self) -> Claim:
        await self.puppet.create("call-1")
        return self.puppet.held["call-1"]

    async def given(self) -> Claim:
        """Have a pending session assigned to the puppet, which has not answered."""
        made = await create_call(self.near, "call-1")
        (status,) = await self.near.assign(self.partition, [self.grant(made.session_id)], "an operation")
        assert status == "assigned"
        return Claim("call-1", made.session_id, (await self.session()).fence)

    def grant(self, session_id: str) -> Grant:
        return Grant(SessionRef("call-1", session_id), self.puppet.owner)

    @property
    def partition(self) -> int:
        return 0

    async def session(self):
        """Return the one session of the call: that there is one, and no second, is part of each outcome."""
        (session,) = (await self.near.describe("call-1")).sessions
        return session

    async def kinds(self) -> collections.Counter[str]:
        return collections.Counter(event.event for event in await self.near.history("call-1"))


async def create(bench: Bench):
    new = NewSession(
        call_id="call-1",
        session_id="01a00000-000-0000000001",
        idempotency_key="key",
        body_digest="digest",
        metadata=b"{}",
        owner=bench.puppet.owner,
    )
    yield
    made = await bench.far.create(new)
    assert (made.status, made.first_created, made.session_id) == ("repeated", True, new.session_id)
    assert (made.state, made.instance_id) == ("active", bench.puppet.instance_id)
    assert await bench.kinds() == {"session.created": 1, "session.activated": 1}


async def create_pending(bench: Bench):
    yield
    made = await create_call(bench.far, "call-1")
    assert (made.status, made.first_created, made.state) == ("repeated", True, "pending")
    assert await bench.near.pending() == 1
    assert await bench.kinds() == {"session.created": 1, "session.pending": 1}


async def accept(bench: Bench):
    claim = await bench.given()
    yield
    answer = await bench.far.accept(bench.puppet.owner, claim)
    assert (answer.status, answer.fence) == ("accepted", claim.fence)
    assert (await bench.kinds())["session.activated"] == 1


async def refuse(bench: Bench):
    claim = await bench.given()
    yield
    assert (await bench.far.refuse(bench.puppet.owner, claim, "full")).status == "written"
    assert (await bench.session()).state == "pending"
    assert (await bench.kinds())["session.pending"] == 2


async def renew(bench: Bench):
    claim = await bench.own()
    yield
    assert (await bench.far.renew(bench.puppet.owner, claim)).status == "renewed"
    assert (await bench.session()).fence == claim.fence


async def readopt(bench: Bench):
    claim = await bench.own()
    bench.cluster.forget()
    held = Held(
        claim=claim,
        metadata=b"{}",
        checkpoint=b'{"n":1}',
        checkpoint_number=1,
        details=b"{}",
        attempt=2,
        created_at_ms=1,
        idempotency_key="",
        body_digest="",
    )
    yield
    answer = await bench.far.readopt(bench.puppet.owner, held)
    session = await bench.session()
    assert (answer.status, answer.fence) == ("there", session.fence)
    assert (session.session_id, session.attempt) == (claim.session_id, 2)
    assert await bench.kinds() == {"session.readopted": 1}


async def release(bench: Bench):
    claim = await bench.own()
    yield
    assert (await bench.far.release(bench.puppet.owner, claim, "drained")).status == "written"
    assert (await bench.session()).state == "pending"
    assert (await bench.kinds())["session.pending"] == 1


async def fail(bench: Bench):
    claim = await bench.own()
    yield
    assert (await bench.far.fail(bench.puppet.owner, claim, "broken", 0.0)).status == "written"
    session = await bench.session()
    assert (session.state, session.attempt) == ("pending", 2)
    assert (await bench.kinds())["session.pending"] == 1


async def checkpoint(bench: Bench):
    claim = await bench.own()
    yield
    assert (await bench.far.checkpoint(bench.puppet.owner, claim, 1, b'{"n":1}')).status == "written"
    assert bench.cluster.checkpoint(claim.session_id) == (1, b'{"n":1}')


async def publish(bench: Bench):
    claim = await bench.own()
    yield
    assert (await bench.far.publish(bench.puppet.owner, claim, 1, b'{"n":1}')).status == "written"
    assert (await bench.session()).details == b'{"n":1}'


async def complete(bench: Bench):
    claim = await bench.own()
    yield
    assert (await bench.far.complete(bench.puppet.owner, claim)).status == "written"
    assert (await bench.session()).state == "completed"
    assert (await bench.kinds())["session.completed"] == 1


async def cancel(bench: Bench):
    await bench.own()
    yield
    assert await bench.far.cancel("call-1", "ended")
    assert (await bench.session()).state == "cancelled"
    assert (await bench.kinds())["session.cancelled"] == 1


async def heartbeat(bench: Bench):
    await bench.own()
    position = await bench.near.tail()
    report = InstanceReport(
        instance_id="another",
        token="its token",
        incarnation=0,
        rank="1",
        address="",
        slots=1,
        used=0,
        state="ready",
        version="test",
        started_at_ms=1,
    )
    yield
    beat = await bench.far.heartbeat(report)
    found = {one.instance_id: one.incarnation for one in await bench.near.instances()}
    assert (beat.status, beat.incarnation) == ("alive", found["another"])
    assert [event.event for event in (await bench.near.events(position)).events] == ["instance.joined"]


async def leave(bench: Bench):
    await bench.own()
    position = await bench.near.tail()
    yield
    await bench.far.leave(bench.puppet.instance_id, bench.puppet.incarnation, "gone")
    assert await bench.near.instances() == []
    assert [event.event for event in (await bench.near.events(position)).events] == ["instance.left"]


async def sweep_dead(bench: Bench):
    claim = await bench.own()
    yield
    await bench.far.sweep_dead(bench.puppet.instance_id, bench.puppet.incarnation + 1, "process died")
    session = await bench.session()
    assert (session.state, session.session_id) == ("pending", claim.session_id)
    assert (await bench.kinds())["session.pending"] == 1


async def sweep(bench: Bench):
    made = await create_call(bench.near, "call-1")
    hasty = await bench.cluster.open_store(accept_ttl=0.02)
    assert await hasty.assign(bench.partition, [bench.grant(made.session_id)], "an operation") == ["assigned"]

    async def expired():
        (view,) = await bench.near.tick()
        return view.expired

    refs = await eventually(expired, WITHIN_S)
    yield
    await bench.far.sweep(bench.partition, refs)
    assert (await bench.session()).state == "pending"
    assert (await bench.kinds())["session.pending"] == 2


async def assign(bench: Bench):
    made = await create_call(bench.near, "call-1")
    yield
    (status,) = await bench.far.assign(bench.partition, [bench.grant(made.session_id)], "an operation")
    assert status == "assigned"
    session = await bench.session()
    assert (session.state, session.instance_id) == ("active", bench.puppet.instance_id)
    # One fence was spent: the assignment that the inbox tells of twice is the same one.
    accepted = await bench.near.accept(bench.puppet.owner, Claim("call-1", session.session_id, session.fence))
    assert accepted.status == "accepted"


ASKED = (
    create, create_pending, accept, refuse, renew, readopt, release, fail, checkpoint, publish, complete, cancel,
    heartbeat, leave, sweep, sweep_dead, assign,
)  # fmt: skip


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.__name__)
async def test_g2_what_was_asked_of_redis_happens_once_though_its_reply_was_lost(redis_server, asked):
    async with ProxiedCluster(redis_server, partitions=1, accept_ttl=2.0) as cluster:
        proxy = await cluster.proxy()
        far = await cluster.open_store(proxy.url)
        await far.check()
        puppet = Puppet(cluster.store, "puppet")
        await puppet.beat()
        bench = Bench(cluster, far, cluster.store, puppet)
        steps = asked(bench)
        await anext(steps)
        proxy.lose_reply(b"EVAL")
        await anext(steps, None)
        assert proxy.lost_replies == 1


async def test_g2_a_reply_that_never_comes_on_a_connection_that_stays_is_given_up_and_asked_for_anew(
    redis_server,
):
    async with ProxiedCluster(redis_server, partitions=1) as cluster:
        proxy: Proxy = await cluster.proxy()
        far = await cluster.open_store(proxy.url)
        await far.check()
        proxy.lose_reply(b"EVAL", silently=True)
        made = await create_call(far, "call-1")
        assert (made.status, made.first_created) == ("repeated", True)
        assert len((await cluster.call("call-1")).sessions) == 1
        assert proxy.lost_replies == 1


def of(script: str) -> bytes:
    """Return what a request for a script contains, once the server knows the script."""
    return load(script).sha(flags=True).encode()


async def test_g2_an_instance_whose_replies_are_lost_starts_each_session_once_and_counts_each_attempt_once(
    redis_server,
):
    witness = Witness()
    failing = asyncio.Event()

    async def handler(session):
        if session.call_id == "fails" and session.attempt == 1:
            await failing.wait()
            raise RuntimeError("the first attempt fails")
        await witness.hold(session)

    async with ProxiedCluster(redis_server, partitions=1, slots=3, max_attempts=2) as cluster:
        member = await cluster.member("one", handler)
        await cluster.watchdog()
        await member.start("warm-up")  # so that Redis knows the scripts
        await cluster.store.cancel("warm-up", "done")
        await eventually(lambda: member.instance.running == 0, WITHIN_S)

        member.proxy.lose_reply(of("create"))
        placed = await member.start("owned")
        assert (placed.created, placed.state, placed.owner) == (True, "active", "one")

        member.proxy.lose_reply(of("accept"))
        await create_call(cluster.store, "assigned")
        await witness.begun("assigned", ticks=1)

        await member.start("fails")
        member.proxy.lose_reply(of("relinquish"))
        failing.set()
        again = await witness.begun("fails", ticks=1)
        assert again.attempt == 2

        assert member.proxy.lost_replies == 3
        assert member.instance.used == member.instance.running == 3
        for call_id in ("owned", "assigned", "fails"):
            (session,) = (await cluster.call(call_id)).sessions
            assert session.state == "active"
            assert len(witness.of(call_id)) == 1
            member.proxy.lose_reply(of("cancel"))
            await member.store.cancel(call_id, "ended")
        await eventually(lambda: member.instance.used == 0, WITHIN_S)
