"""Instances and a watchdog together, in this process: calls move when their owner goes."""

import asyncio
from collections import Counter

import pytest
from harness.puppets import create_call
from harness.waiting import eventually


class Seen:
    """What the sessions of a test saw: starts by call, and what each resumed from."""

    def __init__(self) -> None:
        self.starts: list[tuple[str, str, object]] = []

    async def handler(self, session) -> None:
        self.starts.append((session.call_id, session.instance_id, session.resume))
        counted = (session.resume or {"count": 0})["count"]
        while True:
            counted += 1
            await session.checkpoint({"count": counted})
            await asyncio.sleep(0.05)

    def of(self, call_id: str) -> list[tuple[str, object]]:
        return [(instance, resume) for call, instance, resume in self.starts if call == call_id]


async def test_a_drained_instance_hands_its_calls_off_with_their_checkpoints(cluster):
    seen = Seen()
    leaving = await cluster.instance("leaving", seen.handler)
    await cluster.watchdog()
    calls = [f"call-{number}" for number in range(5)]
    for call_id in calls:
        assert (await cluster.submit("leaving", call_id)).owner == "leaving"
    await eventually(lambda: len(seen.starts) == 5, 2)
    await cluster.instance("staying", seen.handler)
    await leaving.drain()
    await eventually(
        lambda: cluster.owners(calls), 2, until=lambda owners: set(owners.values()) == {"staying"}
    )
    await eventually(lambda: len(seen.starts) == 10, 2)
    for call_id in calls:
        (_, first), (_, second) = seen.of(call_id)
        assert first is None
        assert second["count"] >= 1


@pytest.mark.slow
async def test_an_instance_that_ends_without_a_word_loses_its_calls_with_its_leases(cluster):
    seen = Seen()
    dying = await cluster.instance("dying", seen.handler)
    await cluster.instance("staying", seen.handler, slots=20)
    await cluster.watchdog()
    calls = [f"call-{number}" for number in range(5)]
    for call_id in calls:
        await cluster.submit("dying", call_id)
    await dying.abort()
    await eventually(
        lambda: cluster.owners(calls),
        cluster.settings.lease_ttl + 1,
        until=lambda owners: len(owners) == 5 and set(owners.values()) == {"staying"},
    )


async def test_no_instance_ever_runs_more_than_its_slots_and_the_rest_waits_its_turn(cluster):
    seen = Seen()
    for name in ("a", "b"):
        await cluster.instance(name, seen.handler, slots=2)
    await cluster.watchdog()
    calls = [f"call-{number}" for number in range(6)]
    states = [(await cluster.submit("a", call_id)).state for call_id in calls]
    assert states.count("active") == 2
    await eventually(lambda: cluster.owners(calls), 3, until=lambda owners: len(owners) == 4)
    assert {instance.used for instance in cluster.instances.values()} == {2}
    owners = await cluster.owners(calls)
    await cluster.store.cancel(next(iter(owners)), "a test wants it so")
    await eventually(lambda: cluster.owners(calls), 2, until=lambda now: len(now.keys() - owners.keys()) == 1)
    assert max(instance.used for instance in cluster.instances.values()) == 2


@pytest.mark.slow
async def test_two_watchdogs_start_every_waiting_call_once_and_no_instance_is_ever_above_its_slots(
    patient_cluster,
):
    cluster, seen = patient_cluster, Seen()
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def handler(session) -> None:
        running[session.instance_id] += 1
        most[session.instance_id] = max(most[session.instance_id], running[session.instance_id])
        try:
            await seen.handler(session)
        finally:
            running[session.instance_id] -= 1

    for name in ("a", "b", "c"):
        await cluster.instance(name, handler, slots=20)
    for _ in range(2):
        await cluster.watchdog()
    calls = [f"call-{number}" for number in range(50)]
    for call_id in calls:
        await create_call(cluster.store, call_id)
    await eventually(lambda: len({call for call, _, _ in seen.starts}) == 50, 20)
    assert len(seen.starts) == 50
    assert max(most.values()) <= 20, most
