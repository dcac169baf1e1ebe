"""Many sessions change hands at once: batches are bounded, answers come in order, a stale one harms no other."""

import asyncio

import pytest
from harness.laboratory import JUNIOR, SENIOR

from mediaflow.store import Claim, Grant, SessionRef, sweeping
from mediaflow.store.batches import BATCH


def refs_of(claims: list[Claim]) -> list[SessionRef]:
    return [SessionRef(claim.call_id, claim.session_id) for claim in claims]


async def offer_all(lab, claims: list[Claim], owner) -> list[Claim]:
    """Assign pending sessions, a script for each partition; returns what their new owner would find in its inbox."""
    for partition in range(lab.store.partitions):
        here = [claim for claim in claims if lab.keys.partition_of(claim.call_id) == partition]
        statuses = await lab.store.assign(partition, [Grant(ref, owner) for ref in refs_of(here)], "at-once")
        assert statuses == ["assigned"] * len(here)
    return [lab.current(claim) for claim in claims]


async def test_of_sessions_accepted_at_once_each_has_its_own_answer_in_order(lab):
    offered = await offer_all(lab, [await lab.queue(f"call-{number}") for number in range(6)], SENIOR)
    stale = offered[2]._replace(fence=offered[2].fence - 1)
    unknown = Claim("call-3", offered[3].session_id[:-1] + "x", 7)
    asked = [*offered[:2], stale, unknown, *offered[4:]]
    answers = await lab.store.accept_many(SENIOR, asked)
    assert [answer.status for answer in answers] == [
        *("accepted", "accepted", "lost", "unknown", "accepted", "accepted")
    ]
    assert [answer.fence for answer in answers] == [
        *(c.fence for c in offered[:2]),
        0,
        0,
        offered[4].fence,
        offered[5].fence,
    ]
    assert [lab.record(claim).accepted for claim in offered] == [True, True, False, False, True, True]
    again = await lab.store.accept_many(SENIOR, asked)
    assert [answer.status for answer in again] == [answer.status for answer in answers]


async def test_more_sessions_than_one_script_takes_are_swept_assigned_and_accepted(lab, monkeypatch):
    monkeypatch.setattr(sweeping, "SWEEP_BATCH", 3)
    monkeypatch.setitem(BATCH, "accept", 3)
    claims = [await lab.hold(SENIOR, f"call-{number}") for number in range(20)]
    assert await lab.store.sweep_dead(SENIOR.instance_id, 2, "process died") == 20
    assert {lab.record(claim).state for claim in claims} == {"pending"}
    offered = await offer_all(lab, claims, JUNIOR)
    answers = await lab.store.accept_many(JUNIOR, offered)
    assert [(answer.status, answer.fence) for answer in answers] == [("accepted", c.fence) for c in offered]
    assert [lab.indexes(claim) for claim in claims] == [{"leases"}] * 20


async def test_sessions_of_a_dead_owner_can_be_assigned_before_all_the_others_are_swept(lab, monkeypatch):
    monkeypatch.setattr(sweeping, "PART", 1)
    claims = [await lab.hold(SENIOR, f"call-{number}") for number in range(12)]
    by_partition = {lab.keys.partition_of(claim.call_id) for claim in claims}
    states: list[set[str]] = []
    parts: list[int] = []

    async def on_pending(partitions):
        parts.extend(partitions)
        views = await lab.store.tick(partitions=partitions)
        assert [view.partition for view in views] == list(partitions)
        shown = {waiting.ref for view in views for waiting in view.waiting}
        here = [claim for claim in claims if lab.keys.partition_of(claim.call_id) in partitions]
        assert shown == set(refs_of(here))
        states.append({lab.record(claim).state for claim in claims})

    swept = await lab.store.sweep_dead(
        SENIOR.instance_id, 2, "process died", starting_at=1, on_pending=on_pending
    )
    assert swept == 12
    assert parts == [partition for partition in (1, 2, 0) if partition in by_partition]
    assert states == [*([{"active", "pending"}] * (len(parts) - 1)), {"pending"}]


async def test_what_another_watchdog_has_swept_is_not_swept_again(lab):
    for number in range(6):
        await lab.hold(SENIOR, f"call-{number}")
    assert await lab.store.sweep_dead(SENIOR.instance_id, 2, "process died") == 6

    async def on_pending(partitions):
        pytest.fail(f"nothing was made pending in {partitions}")

    assert await lab.store.sweep_dead(SENIOR.instance_id, 2, "process died", on_pending=on_pending) == 0


async def test_acceptances_of_several_messages_in_one_turn_are_told_apart(lab):
    offered = await offer_all(lab, [await lab.queue(f"call-{number}") for number in range(5)], SENIOR)
    answers = await asyncio.gather(
        lab.store.accept_many(SENIOR, offered[:2]),
        lab.store.accept_many(SENIOR, []),
        lab.store.accept_many(SENIOR, offered[2:]),
    )
    assert [[answer.fence for answer in of_one] for of_one in answers] == [
        *([claim.fence for claim in claims] for claims in (offered[:2], [], offered[2:]))
    ]
