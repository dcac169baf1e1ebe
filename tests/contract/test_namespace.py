"""A namespace: its constants are fixed, two never meet, and what is over vanishes from it."""

import re
import time

import pytest
from harness.laboratory import JUNIOR, SENIOR, THIRD, Laboratory, report

from mediaflow.store import NamespaceMismatch

LASTING = re.compile(r"[^:]+:\{(registry|\d+)\}:(clock|constants|log|calls|ended|instances|records)")
RETENTION_MS = 60_000


async def test_a_process_with_another_number_of_partitions_refuses_to_start_and_says_why(lab, second_store):
    claim = await lab.hold()
    store = await second_store(partitions=4)
    for ask in (store.check, store.tick, lambda: store.describe("call")):
        with pytest.raises(
            NamespaceMismatch, match="first used with 3 partitions, not 4: set partitions = 3"
        ):
            await ask()
    assert lab.record(claim).state == "active"


async def test_another_store_with_the_same_constants_sees_the_same_calls(lab, second_store):
    claim = await lab.hold()
    store = await second_store()
    assert (await store.renew(SENIOR, claim)).status == "renewed"


async def test_two_namespaces_on_one_redis_never_meet(lab, second_store):
    await lab.hold()
    await lab.store.heartbeat(report())
    store = await second_store(namespace="other", partitions=5)
    await store.check()
    assert await store.describe("call") is None
    assert await store.instances() == []
    assert (await store.calls(state=None, cursor=None, limit=10)).calls == []


async def test_a_store_reaches_its_redis_before_it_is_asked_to_check(lab, second_store):
    store = await second_store()
    assert await store.pending() == 0
    assert store.generation >= 1


async def live_through_everything(lab: Laboratory) -> None:
    """End calls in every way that there is."""
    completed = await lab.hold(SENIOR, "completed", key="mine")
    await lab.create("completed", key="another")
    await lab.store.checkpoint(SENIOR, completed, 1, b"1")
    await lab.store.publish(SENIOR, completed, 1, b"{}")
    moved = await lab.move(completed, JUNIOR)
    await lab.store.complete(JUNIOR, moved)
    await lab.hold(SENIOR, "cancelled")
    await lab.store.cancel("cancelled", "asked")
    await lab.queue("waiting")
    await lab.store.cancel("waiting", "asked")
    failed = await lab.hold(SENIOR, "failed")
    for _ in range(2):
        await lab.store.fail(SENIOR, failed, "boom", 0.0)
        failed = await lab.give(failed, SENIOR)
    assert (await lab.store.fail(SENIOR, failed, "boom", 0.0)).status == "failed"
    parked = await lab.hold(SENIOR, "parked")
    for owner in (JUNIOR, THIRD):
        parked = await lab.move(parked, owner)
    lab.lapse(parked)
    await lab.sweep(parked)
    again = await lab.hold(SENIOR, "again")
    await lab.store.complete(SENIOR, again)
    again = await lab.hold(JUNIOR, "again")
    await lab.store.complete(JUNIOR, again)
    one = await lab.hold(SENIOR, "siblings")
    call = lab.keys.call(lab.keys.partition_of("siblings"), "siblings")
    lab.raw.delete(call)
    two = await lab.hold(JUNIOR, "siblings")
    back = await lab.store.readopt(SENIOR, lab.held(one))
    assert (await lab.store.renew(JUNIOR, two)).status == "yielded"
    written = await lab.store.complete(SENIOR, one._replace(fence=back.fence))
    assert written.status in ("written", "refenced")
    if written.status == "refenced":
        await lab.store.complete(SENIOR, one._replace(fence=written.fence))


async def test_all_that_is_left_of_ended_calls_expires_by_itself(lab):
    await live_through_everything(lab)
    for key in sorted(lab.all_keys()):
        if not LASTING.fullmatch(key):
            assert 0 < lab.raw.pttl(key) <= RETENTION_MS, key
    for number in range(lab.store.partitions):
        _, leases, pending, calls, ended, *_ = lab.keys.partition(number)
        assert lab.raw.zcard(leases) == lab.raw.zcard(pending) == 0
        assert lab.raw.zrange(calls, 0, -1) == sorted(lab.raw.zrange(ended, 0, -1))


async def test_an_ended_call_that_starts_again_does_not_expire(lab):
    claim = await lab.hold(key="mine")
    await lab.store.complete(SENIOR, claim)
    await lab.hold(JUNIOR)
    partition = lab.keys.partition_of("call")
    assert lab.raw.pttl(lab.keys.call(partition, "call")) == -1
    assert lab.raw.pttl(lab.keys.idempotency(partition, "call")) == -1
    assert lab.raw.zcard(lab.keys.partition(partition)[4]) == 0


async def test_after_the_retention_nothing_is_left_but_clocks_and_logs(memory_lab, monkeypatch):
    lab = memory_lab
    await live_through_everything(lab)
    later_s = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later_s)
    await lab.store.tick()
    kinds = {key.rpartition(":")[2] for key in lab.all_keys()}
    assert kinds == {"clock", "constants", "log"}
    assert (await lab.store.calls(state=None, cursor=None, limit=10)).calls == []
    assert await lab.store.describe("completed") is None
    assert (await lab.create("completed", SENIOR, key="mine")).status == "created"


async def test_a_live_call_outlives_the_retention(memory_lab, monkeypatch):
    lab = memory_lab
    claim = await lab.hold()
    waiting = await lab.queue("waiting")
    start_s = time.time()
    for step in range(1, 65):
        monkeypatch.setattr(time, "time", lambda step=step: start_s + step)
        await lab.store.tick()
        assert (await lab.store.renew(SENIOR, claim)).status == "renewed"
    assert lab.record(waiting).state == "pending"
    page = await lab.store.calls(state=None, cursor=None, limit=10)
    assert {call.call_id for call in page.calls} == {"call", "waiting"}
    assert await lab.store.sweep_dead(SENIOR.instance_id, 2, "process died") == 1
