"""Lease time (G8): a clock that jumps or stands still cannot make the leases of living owners lapse."""

import time

import pytest
from harness.laboratory import SENIOR, report

CAP_MS = 1_000
TTL_MS = 3_000
HOUR_S = 3_600.0


@pytest.fixture
def clock(monkeypatch):
    """Sets the clock of the Redis in this process, in seconds from the start of the test."""
    start_s = time.time()

    def set_to(offset_s: float) -> None:
        monkeypatch.setattr(time, "time", lambda: start_s + offset_s)

    set_to(0.0)
    return set_to


async def remaining_ms(lab):
    return (await lab.store.describe("call")).sessions[0].lease_remaining_ms


@pytest.mark.parametrize("jump_s", [HOUR_S, 10 * HOUR_S, 1.5])
async def test_a_jump_forward_costs_a_lease_no_more_than_the_cap(memory_lab, clock, jump_s):
    claim = await memory_lab.hold()
    clock(jump_s)
    view = await memory_lab.view()
    assert view.expired == ()
    assert view.next_expiry_in_ms == TTL_MS - CAP_MS
    assert await memory_lab.sweep(claim) == 0
    assert (await memory_lab.store.renew(SENIOR, claim)).status == "renewed"
    assert await remaining_ms(memory_lab) == TTL_MS


async def test_a_jump_back_costs_nothing_and_stops_nothing(memory_lab, clock):
    claim = await memory_lab.hold()
    clock(-HOUR_S)
    assert (await memory_lab.view()).next_expiry_in_ms == TTL_MS
    for step in range(1, 7):
        clock(-HOUR_S + step * 0.5)
        view = await memory_lab.view()
    assert len(view.expired) == 1, "a silent owner is found after the jump in the time that its lease takes"
    assert await memory_lab.sweep(claim) == 1


async def test_jumps_to_and_fro_never_lapse_what_is_renewed(memory_lab, clock):
    claim = await memory_lab.hold()
    now_s = 0.0
    for jump_s in (HOUR_S, -2 * HOUR_S, 0.5, HOUR_S, -HOUR_S, 30 * HOUR_S, 0.0, -60 * HOUR_S):
        now_s += jump_s
        clock(now_s)
        assert (await memory_lab.view()).expired == ()
        assert (await memory_lab.store.renew(SENIOR, claim)).status == "renewed"


async def test_while_the_watchdog_ticks_lease_time_keeps_pace(memory_lab, clock):
    await memory_lab.hold()
    for step in range(1, 6):
        clock(step * 0.5)
        view = await memory_lab.view()
    assert view.next_expiry_in_ms == TTL_MS - 2_500
    clock(3.0)
    assert len((await memory_lab.view()).expired) == 1


async def test_the_fence_grows_though_the_clock_goes_back(memory_lab, clock):
    claim = await memory_lab.hold()
    clock(-HOUR_S)
    renewal = await memory_lab.store.renew(SENIOR, claim, new_fence=True)
    assert renewal.fence > claim.fence
    moved = await memory_lab.move(claim, SENIOR)
    assert moved.fence > renewal.fence


async def test_the_fence_grows_though_redis_lost_everything(memory_lab, clock):
    claim = await memory_lab.hold()
    memory_lab.forget()
    clock(0.001)
    assert (await memory_lab.hold()).fence > claim.fence


async def test_an_instance_is_not_dead_because_a_clock_jumped(memory_lab, clock):
    await memory_lab.store.heartbeat(report())
    clock(HOUR_S)
    (found,) = await memory_lab.store.instances()
    assert found.alive
    assert found.heartbeat_age_ms == CAP_MS


async def test_a_session_that_backs_off_waits_no_longer_because_a_clock_went_back(memory_lab, clock):
    claim = await memory_lab.hold()
    await memory_lab.store.fail(SENIOR, claim, "boom", 2.0)
    clock(-HOUR_S)
    await memory_lab.view()
    for step in range(1, 5):
        clock(-HOUR_S + step * 0.5)
        view = await memory_lab.view()
    assert len(view.waiting) == 1


async def test_a_dead_owner_is_swept_at_once_also_after_a_jump_beyond_the_retention(memory_lab, clock):
    claims = [await memory_lab.hold(SENIOR, call_id) for call_id in ("one", "two", "three")]
    clock(HOUR_S)
    for claim in claims:
        assert (await memory_lab.store.renew(SENIOR, claim)).status == "renewed"
    assert await memory_lab.store.sweep_dead(SENIOR.instance_id, 2, "process died") == 3
