"""What an operator hears of a session: one log line for each change of its state, and figures that agree with it."""

import asyncio
import contextlib
import json
import logging

import pytest
import structlog
from harness.laboratory import JUNIOR
from harness.waiting import eventually

from mediaflow.runtime.registration import Room
from mediaflow.store import Grant, SessionRef
from mediaflow.telemetry import logs

SESSION_EVENTS = {
    "session.created",
    "session.activated",
    "session.pending",
    "session.takeover",
    "session.handoff",
    "session.yielded",
    "session.lost",
    "session.readopted",
    "session.completed",
    "session.failed",
    "session.cancelled",
}
"""As ``/events`` names them."""


@pytest.fixture
def said():
    with structlog.testing.capture_logs() as lines:
        yield lines


def changes(said, call_id: str) -> list[tuple[str, str]]:
    """Return the changes of state of a call's sessions, and which instance told of them."""
    return [
        (line["event"], line["instance"])
        for line in said
        if line.get("call") == call_id and line["event"] in SESSION_EVENTS
    ]


def assert_complete(said) -> None:
    for line in said:
        if line["event"] in SESSION_EVENTS:
            assert line["log_level"] == "info", line
            assert all(line.get(key) is not None for key in ("call", "session", "instance", "fence")), line


async def hold(_session):
    await asyncio.Event().wait()


async def test_a_call_that_completes_is_told_of_twice_and_counted(patient_cluster, said):
    async def handler(_session):
        return

    one = await patient_cluster.instance("one", handler)
    await patient_cluster.submit("one", "call")
    await eventually(lambda: one.running == 0 and one.meter.ended.total, 5)
    assert changes(said, "call") == [("session.activated", "one"), ("session.completed", "one")]
    assert_complete(said)
    assert one.meter.started.values["created",] == 1
    assert one.meter.ended.values["completed",] == 1
    assert one.meter.dispatch.rows["direct",].counts[-1] == 0
    assert sum(one.meter.dispatch.rows["direct",].counts) == 1


async def test_a_cancelled_call_says_so(patient_cluster, said):
    one = await patient_cluster.instance("one", hold)
    await patient_cluster.submit("one", "call")
    await eventually(lambda: one.sessions()["running"] == 1, 5)
    await one.end("call", "because")
    await eventually(lambda: one.running == 0, 5)
    assert changes(said, "call") == [("session.activated", "one"), ("session.cancelled", "one")]
    assert one.meter.ended.values["cancelled",] == 1
    assert one.meter.missed.total == 0


async def test_attempts_that_fail_are_pending_until_the_last_that_failed(cluster, said):
    async def handler(_session):
        raise ValueError("no media")

    one = await cluster.instance("one", handler)
    await cluster.watchdog()
    await cluster.submit("one", "call")
    await eventually(lambda: one.meter.ended.values["failed",] == 1, 10)
    assert [event for event, _ in changes(said, "call")] == [
        *("session.activated", "session.pending"),
        *("session.activated", "session.pending"),
        *("session.activated", "session.failed"),
    ]
    reasons = [line["reason"] for line in said if line["event"] in ("session.pending", "session.failed")]
    assert reasons == ["ValueError: no media"] * 3
    assert one.meter.ended.values["retried",] == 2
    assert one.meter.started.values["retry",] == 2
    assert_complete(said)


async def test_a_call_without_a_slot_waits_and_its_wait_is_measured(patient_cluster, said):
    one = await patient_cluster.instance("one", hold, slots=1)
    await patient_cluster.submit("one", "first")
    await patient_cluster.submit("one", "second")
    assert changes(said, "second") == [("session.pending", "one")]

    async def told_room():
        return [instance.used for instance in await patient_cluster.store.instances()]

    await eventually(
        told_room, 5, until=lambda used: used == [1]
    )  # else it is offered a session, and refuses it
    watchdog = await patient_cluster.watchdog()
    await eventually(lambda: (watchdog.pending, watchdog.leased) == (1, 1), 5)
    await one.end("first", "because")
    await eventually(lambda: one.meter.started.total == 2, 10)
    assert changes(said, "second") == [("session.pending", "one"), ("session.activated", "one")]
    assert sum(one.meter.dispatch.rows["queued",].counts) == 1
    assert one.meter.assignments.values["accepted",] == 1
    assert_complete(said)


async def test_a_drain_is_told_as_a_handoff_by_who_takes_over(cluster, said):
    one = await cluster.instance("one", hold)
    two = await cluster.instance("two", hold)
    await cluster.watchdog()
    await cluster.submit("one", "call")
    await eventually(lambda: one.sessions()["running"] == 1, 5)
    await one.drain()
    await eventually(lambda: two.meter.takeovers.values["handoff",] == 1, 10)
    assert changes(said, "call") == [
        ("session.activated", "one"),
        ("session.pending", "one"),
        ("session.handoff", "two"),
    ]
    assert two.meter.gap.rows["handoff",].sum < 2.0
    told = [line["event"] for line in said if line["event"] in ("instance.draining", "instance.left")]
    assert told == ["instance.draining", "instance.left"]
    assert one.meter.ended.values["drained",] == 1
    assert_complete(said)


@pytest.mark.slow
async def test_an_owner_that_comes_back_tells_for_how_long_two_ran_it(
    cluster, memory_store, said, monkeypatch
):
    one = await cluster.instance("one", hold)
    await cluster.submit("one", "call")
    await eventually(lambda: one.sessions()["running"] == 1, 5)
    reachable = asyncio.Event()
    renew_many = memory_store.renew_many

    async def cut_off(lots, **more):
        if lots[0].items[0].owner.instance_id == "one":
            await reachable.wait()
        return await renew_many(lots, **more)

    monkeypatch.setattr(memory_store, "renew_many", cut_off)
    two = await cluster.instance("two", hold)
    await cluster.watchdog()
    await one._registration.announce_drain(lambda: Room(10, 10))  # so that it is not given its session back
    await eventually(lambda: two.meter.takeovers.total == 1, 15)
    reachable.set()
    await eventually(lambda: one.meter.ended.total == 1, 10)
    assert changes(said, "call")[-2:] == [("session.takeover", "two"), ("session.lost", "one")]
    assert two.meter.takeovers.values["lease_expired",] == 1
    gap = two.meter.gap.rows["lease_expired",]
    assert 2.5 < gap.sum < 10.0, "a gap is at least the lease that had to run out"
    assert one.meter.overlap.count == 1
    assert one.meter.overlap.rows[()].sum < 5.0
    assert memory_store.sweeps.orphaned.values["lease_expired",] == 1
    assert_complete(said)


async def test_a_session_that_redis_forgot_is_told_as_readopted_under_its_new_fence(
    patient_cluster, patient_store, said
):
    sessions = []

    async def handler(session):
        sessions.append(session)
        await asyncio.Event().wait()

    one = await patient_cluster.instance("one", handler)
    await patient_cluster.submit("one", "call")
    await eventually(lambda: sessions, 5)
    first = sessions[0].fence
    await patient_store._asker.link._client.flushall()
    one._roll.ask_now()
    await eventually(lambda: one.meter.readoptions.values["readopted",] == 1, 5)
    assert changes(said, "call") == [("session.activated", "one"), ("session.readopted", "one")]
    assert sessions[0].fence > first
    sessions[0].log.info("handler's own")
    assert [line["fence"] for line in said if line["event"] == "handler's own"] == [sessions[0].fence]
    assert_complete(said)


async def test_renewals_are_measured_and_leave_most_of_the_lease(cluster):
    one = await cluster.instance("one", hold)
    await cluster.submit("one", "call")
    meter = one.meter
    await eventually(lambda: meter.renewals.values["renewed",] >= 2, 10)
    assert meter.renewal.count == meter.lateness.count == meter.lease_left.count
    assert meter.lease_left.rows[()].sum / meter.lease_left.count > 0.2
    assert meter.lateness.rows[()].sum < 5.0


async def test_a_lost_assignment_is_counted_as_not_accepted(patient_cluster, patient_store):
    """A message that nobody heard costs time only, and shows."""
    await patient_cluster.instance("one", hold, slots=1)
    await patient_cluster.submit("one", "first")
    await patient_cluster.submit("one", "second")
    partition = patient_store._keys.partition_of("second")
    _, _, pending, *_ = patient_store._keys.partition(partition)
    member = (await patient_store._asker.link._client.zrange(pending, 0, -1))[0].decode()
    call_id, _, session_id = member.rpartition("/")
    ref = SessionRef(call_id, session_id)
    assert await patient_store.assign(partition, [Grant(ref, JUNIOR)], "operation") == ["assigned"]
    leases = patient_store._keys.partition(partition)[1]
    await patient_store._asker.link._client.zadd(leases, {member: 1})
    assert await patient_store.sweep(partition, [ref]) == 1
    assert patient_store.sweeps.orphaned.values["not_accepted",] == 1


def test_a_line_of_json_has_what_a_search_needs(capsys):
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        logs.configure("info", "json")
        structlog.get_logger("mediaflow.session").info("session.activated", call="c", fence=7)
        [line] = [json.loads(text) for text in capsys.readouterr().err.splitlines()]
    finally:
        root.handlers = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    with contextlib.suppress(KeyError):
        del line["timestamp"]
    assert line == {"event": "session.activated", "level": "info", "call": "c", "fence": 7}
