"""The register of instances."""

import asyncio

from harness.laboratory import report

from mediaflow.store import registry


async def test_an_instance_is_shown_as_it_described_itself(lab):
    beat = await lab.store.heartbeat(report())
    assert beat.status == "alive"
    (found,) = await lab.store.instances()
    assert (found.instance_id, found.incarnation) == ("one", beat.incarnation)
    assert (found.address, found.slots, found.used, found.state) == ("127.0.0.1:8081", 10, 3, "ready")
    assert (found.rank, found.version, found.started_at_ms) == (report().rank, "0", 1_000)
    assert found.alive
    assert found.free == 7
    assert 0 <= found.heartbeat_age_ms < 2_000


async def test_a_repeated_first_heartbeat_gets_the_same_incarnation(lab):
    first = await lab.store.heartbeat(report())
    assert await lab.store.heartbeat(report()) == first
    assert await lab.store.heartbeat(report(incarnation=first.incarnation)) == first


async def test_a_new_process_supersedes_the_one_before(lab):
    old = await lab.store.heartbeat(report())
    new = await lab.store.heartbeat(report(token="second"))
    assert new.incarnation > old.incarnation
    answer = await lab.store.heartbeat(report(incarnation=old.incarnation))
    assert (answer.status, answer.incarnation) == ("superseded", new.incarnation)
    (found,) = await lab.store.instances()
    assert found.incarnation == new.incarnation


async def test_an_instance_keeps_its_incarnation_when_redis_forgot_it(lab):
    beat = await lab.store.heartbeat(report())
    lab.forget()
    assert await lab.store.heartbeat(report(incarnation=beat.incarnation)) == beat


async def test_an_instance_keeps_its_incarnation_when_redis_was_rolled_back_to_its_predecessor(lab):
    await lab.store.heartbeat(report())
    before = lab.snapshot()
    new = await lab.store.heartbeat(report(token="second"))
    lab.roll_back(before)
    assert await lab.store.heartbeat(report(token="second", incarnation=new.incarnation)) == new


async def test_a_process_started_after_a_loss_is_above_those_before(lab):
    old = await lab.store.heartbeat(report())
    lab.forget()
    assert (await lab.store.heartbeat(report(token="second"))).incarnation > old.incarnation


async def test_an_instance_that_left_is_gone_and_leaving_twice_changes_nothing(lab):
    beat = await lab.store.heartbeat(report())
    assert await lab.store.leave("one", beat.incarnation, "drained") is True
    assert await lab.store.leave("one", beat.incarnation, "drained") is False
    assert await lab.store.instances() == []


async def test_an_older_process_cannot_strike_off_its_successor(lab):
    old = await lab.store.heartbeat(report())
    await lab.store.heartbeat(report(token="second"))
    assert await lab.store.leave("one", old.incarnation, "drained") is False
    assert len(await lab.store.instances()) == 1


async def test_a_silent_instance_is_shown_dead_and_has_no_free_slots(lab):
    await lab.store.heartbeat(report())
    lab.raw.zadd(lab.keys.registry[1], {"one": 1})
    (found,) = await lab.store.instances()
    assert not found.alive
    assert found.free == 0
    assert found.heartbeat_age_ms > 3_000


async def test_a_draining_instance_has_no_free_slots(lab):
    beat = await lab.store.heartbeat(report())
    await lab.store.heartbeat(report(incarnation=beat.incarnation, state="draining"))
    (found,) = await lab.store.instances()
    assert (found.alive, found.state, found.free) == (True, "draining", 0)


async def test_instances_are_listed_by_name(lab):
    await asyncio.gather(*(lab.store.heartbeat(report(name)) for name in ("b", "a", "c")))
    assert [one.instance_id for one in await lab.store.instances()] == ["a", "b", "c"]


async def test_a_fleet_of_several_pages_is_shown_whole(lab, monkeypatch):
    monkeypatch.setattr(registry, "PAGE", 2)
    for name in ("e", "b", "a", "d", "c"):
        await lab.store.heartbeat(report(name))
    assert [one.instance_id for one in await lab.store.instances()] == ["a", "b", "c", "d", "e"]


async def test_who_leaves_or_beats_while_a_fleet_is_read_costs_nobody_else_its_place(lab, monkeypatch):
    monkeypatch.setattr(registry, "PAGE", 1)
    beats = {name: await lab.store.heartbeat(report(name)) for name in "abcd"}
    read_page, pages = lab.store._ask_registry, []

    async def read_and_meddle(script, args, *, timeout_s):
        page = await read_page(script, args, timeout_s=timeout_s)
        if script == "roster":
            pages.append(args)
            if len(pages) == 1:
                await lab.store.leave("c", beats["c"].incarnation, "drained")
                for name in "ad":
                    await lab.store.heartbeat(report(name, incarnation=beats[name].incarnation))
        return page

    monkeypatch.setattr(lab.store, "_ask_registry", read_and_meddle)
    assert [one.instance_id for one in await lab.store.instances()] == ["a", "b", "d"]
    assert len(pages) == 4


async def test_the_registry_of_nobody_keeps_its_lease_time_going(lab):
    await lab.store.instances()
    before = int(lab.raw.hget(lab.keys.registry[0], "lease_ms"))
    await asyncio.sleep(0.005)
    assert await lab.store.instances() == []
    assert int(lab.raw.hget(lab.keys.registry[0], "lease_ms")) > before


async def test_coming_draining_and_going_are_events(lab):
    start = await lab.store.tail()
    beat = await lab.store.heartbeat(report())
    for _ in range(2):
        await lab.store.heartbeat(report(incarnation=beat.incarnation, state="draining"))
    await lab.store.leave("one", beat.incarnation, "drained")
    events = (await lab.store.events(start)).events
    assert [event.event for event in events] == ["instance.joined", "instance.draining", "instance.left"]
    assert {event.instance_id for event in events} == {"one"}
    assert events[-1].reason == "drained"


async def test_a_first_heartbeat_that_comes_late_makes_no_newer_process(lab):
    beat = await lab.store.heartbeat(report())
    await lab.store.leave("one", beat.incarnation, "heartbeat expired")
    status, _ = await lab.store._beat(report(), 0, 2.0)
    assert status == "first"
    assert await lab.store.instances() == []
    assert await lab.store.heartbeat(report(incarnation=beat.incarnation)) == beat
