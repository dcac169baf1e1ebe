"""Sessions change hands: sweep, assign, accept, refuse, release, fail."""

import asyncio
import itertools

import msgspec
import pytest
from harness.laboratory import JUNIOR, SENIOR, THIRD, TRACE

from mediaflow.core import names
from mediaflow.store import Claim, Grant, NewSession, SessionRef


async def give_up(lab, kind, owner, claim):
    if kind == "fail":
        return await lab.store.fail(owner, claim, "boom", 0.0)
    return await getattr(lab.store, kind)(owner, claim, "given up")


# -- sweep ---------------------------------------------------------------------------------------


async def test_a_session_whose_lease_is_over_waits_for_another_owner(lab):
    claim = await lab.hold()
    lab.lapse(claim)
    view = await lab.view()
    assert view.expired == (SessionRef("call", claim.session_id),)
    assert await lab.sweep(claim) == 1
    assert lab.record(claim)[:2] == ("pending", SENIOR.instance_id)
    assert lab.indexes(claim) == {"pending"}
    view = await lab.view()
    assert [waiting.ref for waiting in view.waiting] == [SessionRef("call", claim.session_id)]
    assert (view.pending, view.expired) == (1, ())


async def test_a_session_whose_lease_is_live_is_not_swept(lab):
    claim = await lab.hold()
    view = await lab.view()
    assert view.expired == ()
    assert 0 < view.next_expiry_in_ms <= 3_000
    assert await lab.sweep(claim) == 0
    assert lab.record(claim).state == "active"


async def test_the_watchdog_is_told_no_expiry_where_nothing_is_held(lab):
    view = await lab.view()
    assert (view.next_expiry_in_ms, view.next_waiting_in_ms, view.waiting, view.pending) == (
        None,
        None,
        (),
        0,
    )


async def test_of_a_dead_incarnation_only_its_own_sessions_are_swept(lab):
    old = await lab.hold(SENIOR, "old")
    new = await lab.hold(SENIOR._replace(incarnation=2), "new")
    other = await lab.hold(JUNIOR, "other")
    assert await lab.store.sweep_dead(SENIOR.instance_id, 2, "restarted") == 1
    assert [lab.record(claim).state for claim in (old, new, other)] == ["pending", "active", "active"]
    assert await lab.store.sweep_dead(SENIOR.instance_id, 2, "restarted") == 0
    assert await lab.store.sweep_dead(SENIOR.instance_id, 3, "process died") == 1
    assert lab.record(new).state == "pending"


async def test_a_dead_instance_is_swept_over_all_partitions(lab):
    claims = [await lab.hold(SENIOR, f"call-{number}") for number in range(20)]
    assert len({lab.keys.partition_of(claim.call_id) for claim in claims}) == 3
    assert await lab.store.sweep_dead(SENIOR.instance_id, 2, "process died") == 20
    assert await lab.store.pending() == 20


async def test_a_session_that_keeps_killing_its_owners_is_parked(lab):
    claim = await lab.hold()
    for owner in (JUNIOR, THIRD):
        claim = await lab.move(claim, owner)
    lab.lapse(claim)
    assert await lab.sweep(claim) == 0
    described = await lab.store.describe("call")
    assert (described.state, described.sessions[0].end_reason, described.sessions[0].attempt) == (
        "failed",
        "failed",
        1,
    )
    history = await lab.store.history("call")
    assert history[-1].event == "session.failed"
    assert history[-1].reason.startswith("parked: 2 takeovers in a row")
    assert lab.indexes(claim) == set()


async def test_a_session_that_ran_for_a_while_is_not_parked(lab):
    claim = await lab.hold()
    for owner in (JUNIOR, THIRD, SENIOR, JUNIOR):
        lab.run_long(claim)
        claim = await lab.move(claim, owner)
    await lab.orphan(claim)


async def test_handoffs_never_park_a_session(lab):
    claim = await lab.hold()
    owners = [SENIOR, JUNIOR, THIRD, SENIOR, JUNIOR]
    for owner, successor in itertools.pairwise(owners):
        await lab.store.release(owner, claim, "drain")
        claim = await lab.give(claim, successor)
    await lab.orphan(claim)


async def test_offers_that_nobody_accepted_never_park_a_session(lab):
    claim = await lab.queue()
    for _ in range(6):
        await lab.orphan(await lab.offer(claim, SENIOR))
    assert lab.record(claim).state == "pending"


async def test_an_index_that_names_nothing_is_tidied(lab):
    nothing = Claim("nobody", names.session_id(1_800_000_000_000, 0, 1), 0)
    lab.lapse(nothing)
    assert await lab.sweep(nothing) == 0
    assert lab.indexes(nothing) == set()


async def test_a_waiting_list_that_names_nothing_is_tidied_by_an_assignment_and_a_sweep(lab):
    nothing = Claim("nobody", names.session_id(1_800_000_000_000, 0, 1), 0)
    pending = lab.keys.partition(lab.keys.partition_of("nobody"))[2]
    lab.raw.zadd(pending, {f"nobody/{nothing.session_id}": 1})
    assert await lab.assign(nothing, SENIOR) == "skipped"
    (expired,) = (await lab.view("nobody")).expired
    assert await lab.store.sweep(lab.keys.partition_of("nobody"), [expired]) == 0
    assert lab.indexes(nothing) == set()


async def test_a_late_sweep_of_an_ended_session_changes_nothing(lab):
    claim = await lab.hold()
    lab.lapse(claim)
    await lab.store.cancel("call", "asked")
    assert await lab.sweep(claim) == 0
    assert (await lab.store.describe("call")).state == "cancelled"


# -- assign --------------------------------------------------------------------------------------


async def test_an_assignment_is_an_offer_under_a_new_fence_for_a_short_while(lab):
    claim = await lab.hold()
    await lab.orphan(claim)
    assert await lab.assign(claim, JUNIOR) == "assigned"
    record = lab.record(claim)
    assert (record.state, record.owner, record.rank, record.accepted) == (
        "active",
        "junior",
        JUNIOR.rank,
        False,
    )
    assert record.fence > claim.fence
    described = await lab.store.describe("call")
    assert 0 < described.sessions[0].lease_remaining_ms <= 500
    assert lab.indexes(claim) == {"leases"}


async def test_what_is_not_pending_any_more_is_not_assigned(lab):
    claim = await lab.queue()
    assert await lab.assign(claim, SENIOR) == "assigned"
    assert await lab.assign(claim, JUNIOR) == "skipped"
    assert lab.record(claim).owner == SENIOR.instance_id


async def test_what_is_not_there_is_not_assigned(lab):
    nothing = Claim("nobody", names.session_id(1_800_000_000_000, 0, 1), 0)
    assert await lab.assign(nothing, SENIOR) == "skipped"


async def test_a_repeated_assignment_is_the_same_one(lab):
    claim = await lab.queue()
    assert await lab.assign(claim, SENIOR, "once") == "assigned"
    fence = lab.record(claim).fence
    assert await lab.assign(claim, SENIOR, "once") == "assigned"
    assert lab.record(claim).fence == fence


async def test_two_watchdogs_never_assign_one_session_twice(lab):
    claim = await lab.queue()
    statuses = await asyncio.gather(*(lab.assign(claim, owner) for owner in (SENIOR, JUNIOR, THIRD)))
    assert sorted(statuses) == ["assigned", "skipped", "skipped"]


async def test_a_pending_session_yields_to_a_running_sibling(lab):
    senior, junior = await lab.siblings()
    await lab.store.release(SENIOR, senior, "drain")
    assert await lab.assign(senior, THIRD) == "yielded"
    described = await lab.store.describe("call")
    assert {one.session_id: one.state for one in described.sessions} == {
        senior.session_id: "yielded",
        junior.session_id: "active",
    }
    assert lab.indexes(senior) == set()


async def test_a_batch_is_answered_one_by_one(lab):
    call_ids = [name for name in (f"call-{n}" for n in range(30)) if lab.keys.partition_of(name) == 0][:3]
    claims = [await lab.queue(call_id) for call_id in call_ids]
    await lab.assign(claims[1], THIRD)
    grants = [
        Grant(SessionRef(claim.call_id, claim.session_id), owner)
        for claim, owner in zip(claims, (SENIOR, SENIOR, JUNIOR), strict=True)
    ]
    assert await lab.store.assign(0, grants, "batch") == ["assigned", "skipped", "assigned"]


# -- accept --------------------------------------------------------------------------------------


async def test_who_accepts_gets_all_that_a_handler_needs(lab):
    claim = await lab.queue(key="mine", body='{"room":7}')
    offered = await lab.offer(claim, SENIOR)
    taken = await lab.store.accept(SENIOR, offered)
    assert (taken.status, taken.fence) == ("accepted", offered.fence)
    assert (taken.metadata, taken.checkpoint, taken.checkpoint_number) == (b'{"room":7}', None, 0)
    assert (taken.details, taken.attempt, taken.cause) == (b"{}", 1, "created")
    assert taken.created_at_ms > 1_600_000_000_000
    assert len(taken.idempotency_key) == 32
    assert len(taken.body_digest) == 64
    assert taken.trace == TRACE
    described = await lab.store.describe("call")
    assert described.sessions[0].lease_remaining_ms > 2_000


async def test_a_record_from_before_there_were_traces_is_taken_up_without_one(lab):
    claim = await lab.queue()
    key = lab.keys.session(lab.keys.partition_of(claim.call_id), claim.session_id)
    assert lab.raw.hdel(key, "trace") == 1
    taken = await lab.store.accept(SENIOR, await lab.offer(claim, SENIOR))
    assert (taken.status, taken.trace) == ("accepted", "")


async def test_a_successor_gets_the_last_checkpoint(lab):
    claim = await lab.hold()
    await lab.store.checkpoint(SENIOR, claim, 1, b'{"frame":1}')
    await lab.store.checkpoint(SENIOR, claim, 2, b'{"frame":2}')
    await lab.orphan(claim)
    taken = await lab.store.accept(JUNIOR, await lab.offer(claim, JUNIOR))
    assert (taken.checkpoint, taken.checkpoint_number, taken.cause) == (b'{"frame":2}', 2, "takeover")


@pytest.mark.parametrize(("kind", "cause", "attempt"), [("release", "handoff", 1), ("fail", "retry", 2)])
async def test_a_successor_learns_why_it_starts(lab, kind, cause, attempt):
    claim = await lab.hold()
    await give_up(lab, kind, SENIOR, claim)
    taken = await lab.store.accept(JUNIOR, await lab.offer(claim, JUNIOR))
    assert (taken.cause, taken.attempt) == (cause, attempt)


async def test_a_repeated_acceptance_gets_the_same_answer(lab):
    offered = await lab.offer(await lab.queue(), SENIOR)
    first = await lab.store.accept(SENIOR, offered)
    again = await lab.store.accept(SENIOR, offered)
    assert msgspec.structs.replace(again, waited_ms=first.waited_ms) == first
    events = [event.event for event in await lab.store.history("call")]
    assert events.count("session.activated") == 1


async def test_an_assignment_that_went_to_another_is_lost(lab):
    offered = await lab.offer(await lab.queue(), SENIOR)
    await lab.orphan(offered)
    newer = await lab.offer(offered, JUNIOR)
    assert (await lab.store.accept(SENIOR, offered)).status == "lost"
    assert (await lab.store.accept(JUNIOR, offered)).status == "lost"
    assert (await lab.store.accept(JUNIOR, newer)).status == "accepted"


async def test_an_assignment_that_lapsed_and_went_to_nobody_may_still_be_accepted(lab):
    offered = await lab.offer(await lab.queue(), SENIOR)
    await lab.orphan(offered)
    assert (await lab.store.accept(SENIOR, offered)).status == "accepted"
    assert lab.record(offered).state == "active"
    assert lab.indexes(offered) == {"leases"}


async def test_an_ended_session_cannot_be_accepted(lab):
    offered = await lab.offer(await lab.queue(), SENIOR)
    await lab.store.cancel("call", "asked")
    assert (await lab.store.accept(SENIOR, offered)).status == "lost"


async def test_an_assignment_that_redis_forgot_is_unknown(lab):
    offered = await lab.offer(await lab.queue(), SENIOR)
    lab.forget()
    assert (await lab.store.accept(SENIOR, offered)).status == "unknown"


# -- refuse, release, fail -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["refuse", "release", "fail"])
async def test_what_is_given_up_waits_for_another_at_once_and_remembers_no_owner(lab, kind):
    claim = await lab.hold()
    assert (await give_up(lab, kind, SENIOR, claim)).status == "written"
    assert lab.record(claim)[:2] == ("pending", "")
    assert lab.indexes(claim) == {"pending"}
    view = await lab.view()
    assert [waiting.ref.session_id for waiting in view.waiting] == [claim.session_id]


@pytest.mark.parametrize("kind", ["refuse", "release", "fail"])
async def test_giving_up_twice_is_giving_up_once_also_when_another_has_it_by_then(lab, kind):
    claim = await lab.hold()
    first = await give_up(lab, kind, SENIOR, claim)
    assert await give_up(lab, kind, SENIOR, claim) == first
    taken = await lab.give(claim, JUNIOR)
    assert await give_up(lab, kind, SENIOR, claim) == first
    assert lab.current(claim) == taken
    assert lab.record(claim).owner == JUNIOR.instance_id
    described = await lab.store.describe("call")
    assert described.sessions[0].attempt == (2 if kind == "fail" else 1)


@pytest.mark.parametrize("kind", ["refuse", "release", "fail"])
async def test_who_lost_a_session_cannot_give_it_up(lab, kind):
    claim = await lab.hold()
    taken = await lab.move(claim, JUNIOR)
    assert (await give_up(lab, kind, SENIOR, claim)).status == "lost"
    assert lab.current(claim) == taken


@pytest.mark.parametrize("kind", ["refuse", "release", "fail"])
async def test_what_redis_forgot_cannot_be_given_up(lab, kind):
    claim = await lab.hold()
    lab.forget()
    assert (await give_up(lab, kind, SENIOR, claim)).status == "unknown"


@pytest.mark.parametrize("kind", ["refuse", "release", "fail"])
async def test_a_fence_that_redis_never_heard_of_has_to_be_readopted_first(lab, kind):
    claim = await lab.hold()
    before = lab.snapshot()
    renewal = await lab.store.renew(SENIOR, claim, new_fence=True)
    lab.roll_back(before)
    answer = await give_up(lab, kind, SENIOR, claim._replace(fence=renewal.fence))
    assert answer.status == "unknown"


@pytest.mark.parametrize("kind", ["release", "fail"])
async def test_an_owner_that_missed_its_new_fence_is_told_it_before_it_gives_up(lab, kind):
    claim = await lab.hold()
    renewal = await lab.store.renew(SENIOR, claim, new_fence=True)
    answer = await give_up(lab, kind, SENIOR, claim)
    assert (answer.status, answer.fence) == ("refenced", renewal.fence)
    assert (await give_up(lab, kind, SENIOR, claim._replace(fence=answer.fence))).status == "written"


async def test_a_late_refusal_does_not_give_up_a_newer_assignment_to_the_same_instance(lab):
    first = await lab.offer(await lab.queue(), SENIOR)
    await lab.orphan(first)
    second = await lab.offer(first, SENIOR)
    assert (await lab.store.refuse(SENIOR, first, "late")).status == "lost"
    assert lab.current(second) == second


async def test_a_failed_attempt_waits_before_the_next(lab):
    claim = await lab.hold()
    await lab.store.fail(SENIOR, claim, "boom", 30.0)
    view = await lab.view()
    assert view.waiting == ()
    assert view.pending == 1
    assert 28_000 < view.next_waiting_in_ms <= 30_000


async def test_the_last_attempt_fails_the_call_each_time_it_is_reported(lab):
    claim = await lab.hold()
    for status in ("written", "written", "failed"):
        assert (await lab.store.fail(SENIOR, claim, f"boom: {status}", 0.0)).status == status
        failed = claim
        if status == "written":
            claim = await lab.give(claim, SENIOR)
    assert (await lab.store.fail(SENIOR, failed, "boom", 0.0)).status == "failed"
    described = await lab.store.describe("call")
    assert (described.state, described.sessions[0].attempt) == ("failed", 3)
    assert lab.indexes(claim) == set()
    history = await lab.store.history("call")
    assert (history[-1].event, history[-1].reason) == ("session.failed", "boom: failed")


async def test_a_takeover_is_no_failed_attempt(lab):
    claim = await lab.hold()
    claim = await lab.move(claim, JUNIOR)
    described = await lab.store.describe("call")
    assert described.sessions[0].attempt == 1


async def test_whom_a_call_counts_for_goes_with_the_session_to_each_owner_and_back_after_a_loss(lab):
    queued = NewSession(
        call_id="call",
        session_id=names.session_id(1_700_000_000_000, 0, 77),
        idempotency_key="key",
        body_digest="digest",
        metadata=b'{"room":7}',
        owner=None,
        account=b"whoever",
    )
    made = await lab.store.create(queued)
    found = await lab.store.outline(SessionRef("call", made.session_id))
    assert found == (b'{"room":7}', "created", b"whoever")
    offered = await lab.offer(Claim("call", made.session_id, 0), SENIOR)
    accepted = await lab.store.accept(SENIOR, offered)
    assert accepted.account == b"whoever"
    lab.forget()
    assert await lab.store.outline(SessionRef("call", made.session_id)) is None
    held = lab.held(offered, account=accepted.account)
    back = await lab.store.readopt(SENIOR, held)
    again = await lab.store.accept(SENIOR, offered._replace(fence=back.fence))
    assert again.account == b"whoever"
