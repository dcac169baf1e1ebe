"""Fenced writes, and the ends of calls."""

from harness.laboratory import JUNIOR, SENIOR, THIRD


async def accepted(lab, claim, owner=JUNIOR):
    """Hand a session on and return what its next owner is given."""
    await lab.orphan(claim)
    return await lab.store.accept(owner, await lab.offer(claim, owner))


# -- checkpoint and publish ----------------------------------------------------------------------


async def test_a_late_checkpoint_changes_nothing(lab):
    claim = await lab.hold()
    assert (await lab.store.checkpoint(SENIOR, claim, 2, b'"new"')).status == "written"
    assert (await lab.store.checkpoint(SENIOR, claim, 1, b'"old"')).status == "written"
    assert (await lab.store.checkpoint(SENIOR, claim, 2, b'"again"')).status == "written"
    taken = await accepted(lab, claim)
    assert (taken.checkpoint, taken.checkpoint_number) == (b'"new"', 2)


async def test_a_checkpoint_of_any_bytes_comes_back_as_it_was(lab):
    claim = await lab.hold()
    value = bytes(range(256)) * 200
    await lab.store.checkpoint(SENIOR, claim, 1, value)
    assert (await accepted(lab, claim)).checkpoint == value


async def test_an_owner_that_was_replaced_cannot_write(lab):
    claim = await lab.hold()
    taken = await lab.move(claim, JUNIOR)
    assert (await lab.store.checkpoint(SENIOR, claim, 9, b'"old"')).status == "lost"
    assert (await lab.store.publish(SENIOR, claim, 9, b'{"old":1}')).status == "lost"
    assert (await lab.store.checkpoint(JUNIOR, taken, 1, b'"new"')).status == "written"
    described = await lab.store.describe("call")
    assert described.sessions[0].details == b"{}"
    assert (await accepted(lab, taken, THIRD)).checkpoint == b'"new"'


async def test_a_write_under_an_old_fence_of_ones_own_is_told_the_new_one(lab):
    claim = await lab.hold()
    renewal = await lab.store.renew(SENIOR, claim, new_fence=True)
    for write in (lab.store.checkpoint, lab.store.publish):
        answer = await write(SENIOR, claim, 1, b'"old"')
        assert (answer.status, answer.fence) == ("refenced", renewal.fence)
    assert (await accepted(lab, claim)).checkpoint is None


async def test_after_an_end_nothing_is_written(lab):
    claim = await lab.hold()
    await lab.store.cancel("call", "asked")
    assert (await lab.store.checkpoint(SENIOR, claim, 1, b"1")).status == "lost"


async def test_a_write_to_what_redis_forgot_or_rolled_back_has_to_readopt_first(lab):
    claim = await lab.hold()
    before = lab.snapshot()
    newer = claim._replace(fence=(await lab.store.renew(SENIOR, claim, new_fence=True)).fence)
    lab.roll_back(before)
    assert (await lab.store.checkpoint(SENIOR, newer, 1, b"1")).status == "unknown"
    lab.forget()
    assert (await lab.store.publish(SENIOR, newer, 1, b"{}")).status == "unknown"


async def test_published_details_are_shown_and_late_ones_are_not(lab):
    claim = await lab.hold()
    await lab.store.publish(SENIOR, claim, 2, b'{"frame":2}')
    await lab.store.publish(SENIOR, claim, 1, b'{"frame":1}')
    described = await lab.store.describe("call")
    assert described.sessions[0].details == b'{"frame":2}'


# -- complete ------------------------------------------------------------------------------------


async def test_who_completes_ends_the_call_once(lab):
    claim = await lab.hold()
    for _ in range(2):
        assert (await lab.store.complete(SENIOR, claim)).status == "written"
    described = await lab.store.describe("call")
    assert (described.state, described.sessions[0].end_reason) == ("completed", "completed")
    assert lab.indexes(claim) == set()
    events = [event.event for event in await lab.store.history("call")]
    assert events.count("session.completed") == 1


async def test_a_completed_session_is_not_revived_by_anything(lab):
    claim = await lab.hold()
    await lab.store.complete(SENIOR, claim)
    assert (await lab.store.renew(SENIOR, claim)).status == "cancelled"
    assert (await lab.store.release(SENIOR, claim, "drain")).status == "lost"
    assert await lab.assign(claim, JUNIOR) == "skipped"
    assert (await lab.store.describe("call")).state == "completed"


async def test_the_senior_that_completes_ends_its_siblings(lab):
    senior, junior = await lab.siblings()
    answer = await lab.store.complete(SENIOR, senior)
    assert answer.status == "written"
    described = {one.session_id: one for one in (await lab.store.describe("call")).sessions}
    assert described[senior.session_id].state == "completed"
    assert described[junior.session_id].state == "cancelled"
    assert (await lab.store.renew(JUNIOR, junior)).status == "cancelled"
    assert lab.indexes(junior) == set()


async def test_the_junior_that_completes_yields_and_the_call_goes_on(lab):
    senior, junior = await lab.siblings()
    for _ in range(2):
        answer = await lab.store.complete(JUNIOR, junior)
        assert (answer.status, answer.winner) == ("yielded", senior.session_id)
    described = await lab.store.describe("call")
    assert described.state == "active"
    assert lab.record(senior).state == "active"


async def test_the_junior_of_a_sibling_that_fell_silent_ends_the_call(lab):
    senior, junior = await lab.siblings()
    lab.lapse(senior)
    assert (await lab.store.complete(JUNIOR, junior)).status == "written"
    assert (await lab.store.describe("call")).state == "completed"
    assert lab.record(senior).state == "cancelled"


async def test_who_completes_ends_a_sibling_that_waits(lab):
    senior, junior = await lab.siblings()
    await lab.store.release(SENIOR, senior, "drain")
    assert (await lab.store.complete(JUNIOR, junior)).status == "written"
    assert lab.record(senior).state == "cancelled"
    assert await lab.store.pending() == 0


async def test_who_lost_a_session_cannot_complete_it(lab):
    claim = await lab.hold()
    await lab.move(claim, JUNIOR)
    assert (await lab.store.complete(SENIOR, claim)).status == "lost"
    assert (await lab.store.describe("call")).state == "active"


async def test_who_missed_its_new_fence_completes_in_a_second_try(lab):
    claim = await lab.hold()
    renewal = await lab.store.renew(SENIOR, claim, new_fence=True)
    answer = await lab.store.complete(SENIOR, claim)
    assert (answer.status, answer.fence) == ("refenced", renewal.fence)
    assert (await lab.store.complete(SENIOR, claim._replace(fence=answer.fence))).status == "written"


async def test_what_redis_forgot_is_completed_after_its_readoption(lab):
    claim = await lab.hold()
    lab.forget()
    assert (await lab.store.complete(SENIOR, claim)).status == "unknown"
    answer = await lab.store.readopt(SENIOR, lab.held(claim))
    assert (await lab.store.complete(SENIOR, claim._replace(fence=answer.fence))).status == "written"
    assert (await lab.store.describe("call")).state == "completed"


# -- cancel --------------------------------------------------------------------------------------


async def test_a_cancel_ends_all_live_sessions_of_a_call(lab):
    senior, junior = await lab.siblings()
    assert await lab.store.cancel("call", "asked") is True
    described = await lab.store.describe("call")
    assert described.state == "cancelled"
    assert {one.end_reason for one in described.sessions} == {"cancelled"}
    assert lab.indexes(senior) == lab.indexes(junior) == set()


async def test_a_cancel_ends_a_session_that_waits(lab):
    await lab.queue()
    assert await lab.store.cancel("call", "asked") is True
    assert (await lab.store.describe("call")).state == "cancelled"
    assert await lab.store.pending() == 0


async def test_a_call_that_nobody_knows_cannot_be_cancelled(lab):
    assert await lab.store.cancel("nobody", "asked") is False
    assert not any("nobody" in key for key in lab.all_keys())


async def test_cancelling_an_ended_call_changes_nothing(lab):
    claim = await lab.hold()
    await lab.store.complete(SENIOR, claim)
    before = await lab.store.history("call")
    assert await lab.store.cancel("call", "asked") is True
    assert await lab.store.history("call") == before
    assert (await lab.store.describe("call")).state == "completed"


async def test_a_late_cancel_cannot_end_a_new_session(lab, monkeypatch):
    old = await lab.hold()
    seen = await lab.store.describe("call")
    await lab.store.complete(SENIOR, old)
    new = await lab.hold(JUNIOR)

    async def what_was_seen_before(call_id, *, timeout_s=2.0):
        return seen

    monkeypatch.setattr(lab.store, "describe", what_was_seen_before)
    assert await lab.store.cancel("call", "late") is True
    assert lab.record(new).state == "active"
