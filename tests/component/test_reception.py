"""An instance answers what a message offers it: many assignments at once, of which some cannot be had."""

import asyncio
import contextlib
from collections import Counter

import pytest
from harness.puppets import create_call
from harness.waiting import eventually

from mediaflow.core.partitions import partition_of
from mediaflow.runtime.instance import Instance
from mediaflow.runtime.reception import REFUSALS_AT_ONCE
from mediaflow.settings import Settings
from mediaflow.store import Assignments, Claim, Grant, Owner, SessionRef, StoreUnavailable


async def for_ever(session) -> None:
    await asyncio.Event().wait()


class Inbox:
    """The store of a test, whose inbox holds what the test puts there; it notes how acceptances are asked for."""

    def __init__(self, store, settings: Settings) -> None:
        self._store = store
        self.messages: asyncio.Queue[Assignments] = asyncio.Queue()
        self.requests: list[int] = []
        self.patience_s: list[float] = []
        self.answers_lost = 0

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    async def inbox(self, instance_id: str):
        while True:
            yield await self.messages.get()

    async def accept_many(self, owner: Owner, claims, *, timeout_s: float):
        self.requests.append(len(claims))
        self.patience_s.append(timeout_s)
        answers = await self._store.accept_many(owner, claims, timeout_s=timeout_s)
        if self.answers_lost:
            self.answers_lost -= 1
            raise StoreUnavailable("the answer is lost")
        return answers


@contextlib.asynccontextmanager
async def hosting(store: Inbox, settings: Settings):
    async with Instance(store, for_ever, settings) as instance:
        await instance.wait_ready()
        yield instance
        await instance.abort()


async def offer(store, instance, numbers) -> list[Claim]:
    """Assign a call for each number to an instance, and return the claims; nobody has told it."""
    owner = Owner(instance.instance_id, instance.incarnation, instance.rank)
    claims = []
    for call_id in map("call-{}".format, numbers):
        made = await create_call(store, call_id)
        partition = partition_of(call_id, store.partitions)
        assert await store.assign(
            partition, [Grant(SessionRef(call_id, made.session_id), owner)], call_id
        ) == ["assigned"]
        found = await store.describe(call_id)
        claims.append(Claim(call_id, made.session_id, found.sessions[0].fence))
    return claims


async def states(store, claims) -> Counter:
    return Counter([(await store.describe(claim.call_id)).state for claim in claims])


@pytest.fixture
def settings(quick):
    # Nothing lapses meanwhile, on however busy a machine.
    return Settings(redis_url=quick.redis_url, lease_ttl=60.0, accept_ttl=30.0, slots=4, drain_timeout=1)


async def test_of_a_message_with_more_than_there_is_room_for_the_first_run_and_the_rest_is_refused(
    settings, memory_store
):
    store = Inbox(memory_store, settings)
    async with hosting(store, settings) as instance:
        claims = await offer(store, instance, range(7))
        store.messages.put_nowait(Assignments(tuple(claims), instance.incarnation))

        async def refused():
            return [c for c in claims if (await store.describe(c.call_id)).state == "pending"]

        await eventually(refused, 5, until=lambda found: len(found) == 3)
        await eventually(lambda: instance.running == 4, 5)
        assert await refused() == claims[4:]
        assert instance.used == 4
    assert store.requests == [4], "one request for all of a message"


async def test_a_stale_assignment_in_the_midst_of_a_message_takes_no_slot_and_no_other_with_it(
    settings, memory_store
):
    store = Inbox(memory_store, settings)
    async with hosting(store, settings) as instance:
        claims = await offer(store, instance, range(3))
        claims[1] = claims[1]._replace(fence=claims[1].fence - 1)
        twice = (*claims, claims[0])
        store.messages.put_nowait(Assignments(twice, instance.incarnation))
        await eventually(lambda: instance.running == 2, 5)
        await eventually(lambda: instance.used == 2, 5)
        # A message for a predecessor of its name is none to it.
        store.messages.put_nowait(Assignments(tuple(claims), instance.incarnation - 1))
        # What runs here already is not asked about again, nor does it take another slot.
        store.messages.put_nowait(Assignments((claims[2],), instance.incarnation))
        more = await offer(store, instance, [7])
        store.messages.put_nowait(Assignments(tuple(more), instance.incarnation))
        await eventually(lambda: instance.running == 3, 5)
        assert instance.used == 3
    assert store.requests == [3, 1]


async def test_an_acceptance_without_an_answer_gives_its_slots_back(settings, memory_store):
    store = Inbox(memory_store, settings)
    async with hosting(store, settings) as instance:
        claims = await offer(store, instance, range(2))
        store.answers_lost = 1
        store.messages.put_nowait(Assignments(tuple(claims), instance.incarnation))
        await eventually(lambda: store.requests == [2] and instance.used == 0, 5)
        assert instance.running == 0
        # Redis, if it heard, holds a lease for this owner: as long it is asked, so that none is idle for a lease.
        assert store.patience_s == [settings.lease_ttl]
        # It may have happened: given once more, they are had.
        store.messages.put_nowait(Assignments(tuple(claims), instance.incarnation))
        await eventually(lambda: instance.running == 2, 5)


async def test_a_flood_of_forged_assignments_has_few_refusals_under_way(settings, memory_store):
    store = Inbox(memory_store, settings)
    async with hosting(store, settings) as instance:
        forged = [Claim(f"call-{n}", f"01a217271351-015-{n:010x}", 7) for n in range(2 * REFUSALS_AT_ONCE)]
        store.messages.put_nowait(Assignments(tuple(forged), instance.incarnation))
        await eventually(lambda: store.requests == [settings.slots] and instance.used == 0, 5)
        real = await offer(store, instance, range(2))
        store.messages.put_nowait(Assignments(tuple(real), instance.incarnation))
        await eventually(lambda: instance.running == 2, 5)
        asked = instance.meter.assignments.values["refused",]
    assert asked == REFUSALS_AT_ONCE
