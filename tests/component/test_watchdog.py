"""The watchdog against a store in this process, with instances that do as the test says."""

import asyncio
import time

import pytest
from harness.api import since
from harness.puppets import Puppet, create_call, running
from harness.stopwatch import Stopwatch
from harness.waiting import eventually
from structlog.testing import capture_logs

from mediaflow.core.partitions import partition_of
from mediaflow.store import Owner
from mediaflow.watchdog.probe import NobodyListens, NotReached
from mediaflow.watchdog.watchdog import Watchdog


class Line:
    """A connection that a test can cut."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._cut = asyncio.Event()

    def cut(self) -> None:
        self._cut.set()

    async def broken(self) -> None:
        await self._cut.wait()

    def close(self) -> None:
        self._cut.set()


class Exchange:
    """A network in which a test decides who listens: ``up``, ``refusing`` or ``silent``."""

    def __init__(self) -> None:
        self.state = "up"
        self.lines: list[Line] = []
        self.tries = 0

    async def reach(self, address: str) -> Line:
        self.tries += 1
        if self.state == "refusing":
            raise NobodyListens(address)
        if self.state == "silent":
            raise NotReached(address)
        self.lines.append(Line(address))
        return self.lines[-1]

    def cut(self, state: str) -> None:
        """Break all connections; from now on new ones find ``state``."""
        self.state = state
        for line in self.lines:
            line.cut()


def hold(puppet: Puppet, *call_ids: str):
    return lambda: set(call_ids) <= puppet.held.keys()


async def test_a_pending_call_is_given_to_an_instance_with_room(quick, memory_store):
    full, roomy = Puppet(memory_store, "full", slots=1), Puppet(memory_store, "roomy", slots=5)
    full.shown_used = 1
    async with running(full.live(), roomy.live(), Watchdog(memory_store, quick).run()):
        for number in range(4):
            assert (await create_call(memory_store, f"call-{number}")).state == "pending"
        await eventually(hold(roomy, *(f"call-{number}" for number in range(4))), 2)
    assert full.offered == []


async def test_a_call_that_came_before_any_instance_is_given_to_the_first_that_comes(quick, memory_store):
    watchdog = Watchdog(memory_store, quick)
    async with running(watchdog.run()):
        await create_call(memory_store, "early")
        await eventually(lambda: watchdog.pending == 1, 2)
        late = Puppet(memory_store, "late")
        async with running(late.live()):
            await eventually(hold(late, "early"), 2)


async def test_a_full_fleet_takes_the_next_call_as_soon_as_a_slot_is_free(quick, memory_store):
    puppet = Puppet(memory_store, "a", slots=1)
    puppet.shown_used = 1
    watchdog = Watchdog(memory_store, quick)
    async with running(puppet.live(), watchdog.run()):
        await eventually(lambda: watchdog.ready, 2)
        await create_call(memory_store, "next")
        await eventually(lambda: watchdog.pending == 1, 2)
        puppet.shown_used = 0
        with Stopwatch() as watch:
            await puppet.beat()
            await eventually(hold(puppet, "next"), 5)
    watch.assert_within(0.5, "the next call had an owner")


async def test_a_slot_that_was_just_given_away_and_is_free_again_is_given_again_at_once(quick, memory_store):
    puppet = Puppet(memory_store, "a", slots=1)
    async with running(puppet.live(), Watchdog(memory_store, quick).run()):
        await create_call(memory_store, "first")
        await eventually(hold(puppet, "first"), 2)
        await puppet.beat()
        await create_call(memory_store, "next")
        await memory_store.cancel("first", "it was short")
        del puppet.held["first"]
        with Stopwatch() as watch:
            await puppet.beat()
            await eventually(hold(puppet, "next"), 5)
    watch.assert_within(0.5, "the next call had an owner")


async def test_a_refused_session_is_tried_elsewhere(quick, memory_store):
    unwilling, willing = (
        Puppet(memory_store, "unwilling", slots=20),
        Puppet(memory_store, "willing", slots=20),
    )
    unwilling.accepting = False
    calls = [f"call-{number}" for number in range(10)]
    async with running(unwilling.live(), willing.live(), Watchdog(memory_store, quick).run()):
        for call_id in calls:
            await create_call(memory_store, call_id)
        await eventually(hold(willing, *calls), 5)
    assert unwilling.refused, "with even chances it should have been asked for some of ten"


async def test_an_assignment_that_nobody_answers_lapses_and_is_given_again(quick, memory_store):
    deaf, willing = Puppet(memory_store, "deaf", slots=100), Puppet(memory_store, "willing", slots=1)
    deaf.accepting = None
    async with running(deaf.live(), Watchdog(memory_store, quick).run()):
        await create_call(memory_store, "call")
        await eventually(lambda: deaf.offered, 2)
        deaf.slots = 0
        async with running(willing.live()):
            await eventually(hold(willing, "call"), 5)


async def test_a_draining_instance_is_given_nothing(quick, memory_store):
    leaving, staying = Puppet(memory_store, "leaving", slots=100), Puppet(memory_store, "staying", slots=5)
    leaving.state = "draining"
    async with running(leaving.live(), staying.live(), Watchdog(memory_store, quick).run()):
        for number in range(5):
            await create_call(memory_store, f"call-{number}")
        await eventually(lambda: len(staying.held) == 5, 2)
    assert leaving.offered == []


# -- death ------------------------------------------------------------------------------------------


async def test_a_silent_owner_loses_its_calls_when_its_leases_end_and_is_not_offered_them_again(
    quick, memory_store
):
    # So much larger that nearly every draw would be the silent one.
    silent, other = Puppet(memory_store, "silent", slots=10_000), Puppet(memory_store, "other")
    async with running(other.live(), Watchdog(memory_store, quick).run()):
        await silent.beat()
        async with running(silent.listen()):
            with Stopwatch() as watch:
                await silent.create("call")
                # Its next renewal, late on a busy machine, would have come soon after this heartbeat.
                await eventually(lambda: since(watch.began_s) > quick.lease_ttl - 1.7, 5)
                await silent.beat()
                await eventually(hold(other, "call"), 10)
    assert quick.lease_ttl - 0.3 < watch.took_s
    idle_s = quick.lease_ttl - 0.5
    watch.assert_within(quick.lease_ttl + 0.5, "a silent owner's call was another's", idle_s=idle_s)
    assert silent.offered == [], "it must not be offered what it just lost"


async def test_calls_whose_leases_end_together_are_all_told_of(quick, memory_store):
    silent, other = Puppet(memory_store, "silent"), Puppet(memory_store, "other")
    calls = [f"call-{number}" for number in range(8)]
    watchdog = Watchdog(memory_store, quick)
    with capture_logs() as told:
        async with running(other.live(), watchdog.run()):
            await silent.beat()
            for call_id in calls:
                await silent.create(call_id)
            await eventually(hold(other, *calls), 10)
    assert watchdog.orphaned == 8
    assert sum(line["sessions"] for line in told if line["event"] == "leases expired") == 8


async def test_a_dead_process_loses_its_calls_at_once(quick, memory_store):
    network = Exchange()
    dying, other = Puppet(memory_store, "dying", address="10.0.0.1:1"), Puppet(memory_store, "other")
    watchdog = Watchdog(memory_store, quick, probe=network)
    async with running(dying.live(), other.live(), watchdog.run()):
        await eventually(lambda: network.lines, 2)
        for number in range(5):
            await dying.create(f"call-{number}")
        dying.beating = dying.renewing = False
        with Stopwatch() as watch:
            network.cut("refusing")
            await eventually(lambda: len(other.held) == 5, 5)
        assert [one.instance_id for one in await memory_store.instances()] == ["other"]
    watch.assert_within(0.5, "the dead process's calls were another's")


async def test_of_many_calls_of_a_dead_process_the_first_run_elsewhere_before_the_last_is_swept(
    quick, memory_store, monkeypatch
):
    monkeypatch.setattr("mediaflow.store.sweeping.PART", 1)
    network = Exchange()
    dying, other = (
        Puppet(memory_store, "dying", address="10.0.0.1:1"),
        Puppet(memory_store, "other", slots=20),
    )
    watchdog = Watchdog(memory_store, quick, probe=network)
    held_at_parts: list[int] = []
    tick = memory_store.tick

    async def tick_when_all_is_assigned(*, limit: int, partitions=None):
        if partitions is not None:
            given = watchdog.assigned
            await eventually(lambda: len(other.held) == given, 5)
            held_at_parts.append(len(other.held))
        return await tick(limit=limit, partitions=partitions)

    monkeypatch.setattr(memory_store, "tick", tick_when_all_is_assigned)
    async with running(dying.live(), other.live(), watchdog.run()):
        await eventually(lambda: network.lines, 2)
        calls = [f"call-{number}" for number in range(8)]
        for call_id in calls:
            await dying.create(call_id)
        dying.beating = dying.renewing = False
        network.cut("refusing")
        await eventually(hold(other, *calls), 5)
    partitions = {partition_of(call_id, 32) for call_id in calls}
    assert len(held_at_parts) == len(partitions) > 2
    assert held_at_parts == sorted(set(held_at_parts)), "each part was assigned before the next was swept"
    assert len({claim.session_id for claim in other.offered}) == len(other.offered) == 8


async def test_one_place_that_is_left_is_given_to_one_of_two_dead_processes_and_not_to_both(
    quick, memory_store
):
    network = Exchange()
    dying = [Puppet(memory_store, name, address=f"10.0.0.{name}:1") for name in ("1", "2")]
    other = Puppet(memory_store, "other", slots=1)
    watchdog = Watchdog(memory_store, quick, probe=network)
    async with running(*(one.live() for one in dying), watchdog.run()):
        await eventually(lambda: len(network.lines) == 2, 2)
        for one in dying:
            await one.create(f"call-{one.instance_id}")
            one.beating = one.renewing = False
        async with running(other.live()):
            await eventually(lambda: "other" in watchdog._vigil.incarnations, 5)
            network.cut("refusing")
            await eventually(lambda: watchdog.orphaned == 2 and len(other.held) == 1, 5)
            await eventually(lambda: watchdog.pending == 1, 5)
    assert len(other.offered) == 1


@pytest.mark.parametrize("state", ["up", "silent"])
async def test_a_connection_that_breaks_proves_nothing_by_itself(quick, memory_store, state):
    network = Exchange()
    owner, other = Puppet(memory_store, "owner", address="10.0.0.1:1"), Puppet(memory_store, "other")
    watchdog = Watchdog(memory_store, quick, probe=network)
    async with running(owner.live(), other.live(), watchdog.run()):
        await eventually(lambda: network.lines, 2)
        await owner.create("call")
        tries = network.tries
        network.cut(state)
        await eventually(lambda: network.tries > tries, 3, about="it tries to connect again")
        ticks_at = watchdog.assigned
        await create_call(memory_store, "marker")
        await eventually(lambda: watchdog.assigned > ticks_at, 2, about="a turn later")
    assert watchdog.orphaned == 0
    assert "call" in owner.held


async def test_an_address_never_reached_proves_nothing(quick, memory_store):
    network = Exchange()
    network.state = "refusing"
    owner = Puppet(memory_store, "owner", address="10.0.0.1:1")
    watchdog = Watchdog(memory_store, quick, probe=network)
    async with running(owner.live(), watchdog.run()):
        await eventually(lambda: network.tries >= 2, 3)
        await owner.create("call")
        await create_call(memory_store, "marker")
        await eventually(hold(owner, "call", "marker"), 2)
    assert watchdog.orphaned == 0


async def test_a_restarted_instance_gets_nothing_of_its_predecessor_lost(quick, memory_store):
    old, new = Puppet(memory_store, "same-id"), Puppet(memory_store, "same-id")
    async with running(Watchdog(memory_store, quick).run()):
        async with running(old.live()):
            await eventually(lambda: old.incarnation, 2)
            await old.create("call")
        async with running(new.live()):
            await eventually(hold(new, "call"), 1)
    assert new.incarnation > old.incarnation


@pytest.mark.parametrize("others", [[], pytest.param(["other"], marks=pytest.mark.slow)])
async def test_who_stops_beating_leaves_the_registry_also_if_it_was_the_last(quick, memory_store, others):
    gone = Puppet(memory_store, "gone")
    puppets = [Puppet(memory_store, name) for name in others]
    async with running(*(one.live() for one in puppets), Watchdog(memory_store, quick).run()):
        await gone.beat()

        async def registered():
            return [one.instance_id for one in await memory_store.instances()]

        await eventually(registered, 2, until=lambda names: names == ["gone", *others])
        await eventually(registered, quick.lease_ttl + 1.5, until=lambda names: names == others)


# -- warm-up ----------------------------------------------------------------------------------------


async def lapse_all(store, monkeypatch) -> None:
    """Let lease time pass without any owner having had the time to renew."""
    real = time.time
    ahead_s = 0.0
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)
    for _ in range(5):
        ahead_s += 1.0
        views = await store.tick()
    assert any(view.expired for view in views)


async def test_after_its_start_owners_can_renew_before_anything_is_swept(quick, memory_store, monkeypatch):
    owner, other = Puppet(memory_store, "owner"), Puppet(memory_store, "other")
    await owner.beat()
    calls = [f"call-{number}" for number in range(8)]
    for call_id in calls:
        await owner.create(call_id)
    await lapse_all(memory_store, monkeypatch)
    watchdog = Watchdog(memory_store, quick)
    async with running(other.live(), watchdog.run()):
        await eventually(lambda: watchdog.ready, 2)
        async with running(owner.live()):  # it renews at once
            await create_call(memory_store, "marker")
            await eventually(lambda: {"marker"} <= owner.held.keys() | other.held.keys(), 2)
            began_s = time.monotonic()
            await eventually(lambda: time.monotonic() > began_s + quick.renew_interval_s, 5)
    assert watchdog.orphaned == 0
    assert set(calls) <= owner.held.keys()


async def test_when_the_warm_up_is_over_the_silent_are_swept(quick, memory_store, monkeypatch):
    silent, other = Puppet(memory_store, "silent"), Puppet(memory_store, "other")
    await silent.beat()
    await silent.create("call")
    await lapse_all(memory_store, monkeypatch)
    began_s = time.monotonic()
    async with running(other.live(), Watchdog(memory_store, quick).run()):
        await eventually(hold(other, "call"), 5)
    assert time.monotonic() - began_s >= quick.renew_interval_s


# -- several ----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_two_watchdogs_never_give_a_session_twice(patient, patient_store):
    # Room for all in each: a puppet refuses nothing, and slots are the instance's to defend, not the watchdogs'.
    puppets = [Puppet(patient_store, name, slots=50) for name in ("a", "b", "c")]
    watchdogs = [Watchdog(patient_store, patient) for _ in range(2)]
    async with running(*(puppet.live() for puppet in puppets), *(watchdog.run() for watchdog in watchdogs)):
        await eventually(lambda: all(watchdog.ready for watchdog in watchdogs), 10)
        for number in range(50):
            await create_call(patient_store, f"call-{number}")
        await eventually(lambda: sum(len(puppet.held) for puppet in puppets) == 50, 20)
    offered = [claim.session_id for puppet in puppets for claim in puppet.offered]
    assert len(offered) == len(set(offered)) == 50
    assert sum(watchdog.assigned for watchdog in watchdogs) == 50


async def test_a_backlog_larger_than_one_look_is_worked_off(quick, memory_store, monkeypatch):
    """Everything in one partition, several times what a tick shows of it."""
    monkeypatch.setattr("mediaflow.watchdog.watchdog.TICK_LIMIT", 10)
    in_one = [name for name in map("call-{}".format, range(4000)) if partition_of(name, 32) == 0][:60]
    assert len(in_one) == 60
    for name in in_one:
        await create_call(memory_store, name)
    puppet = Puppet(memory_store, "a", slots=100)
    async with running(puppet.live(), Watchdog(memory_store, quick).run()):
        await eventually(lambda: len(puppet.held) == 60, 5)


async def test_an_owner_of_another_incarnation_cannot_be_swept_by_mistake(quick, memory_store):
    puppet = Puppet(memory_store, "a")
    await puppet.beat()
    await puppet.create("call")
    assert await memory_store.sweep_dead("a", puppet.incarnation, "restarted") == 0
    assert puppet.owner == Owner("a", puppet.incarnation, puppet.rank)
