"""Putting back what Redis forgot (G7), and when that is refused."""

from harness.laboratory import JUNIOR, SENIOR, TRACE, digest

from mediaflow.store.ownership import idempotency_field


async def test_an_owner_puts_its_session_back_under_a_new_fence(lab):
    claim = await lab.hold()
    lab.forget()
    answer = await lab.store.readopt(SENIOR, lab.held(claim))
    assert answer.status == "readopted"
    assert answer.fence > claim.fence
    mine = claim._replace(fence=answer.fence)
    assert (await lab.store.renew(SENIOR, mine)).status == "renewed"
    described = await lab.store.describe("call")
    assert [(one.state, one.attempt, one.details) for one in described.sessions] == [
        ("active", 2, b'{"shown":1}')
    ]


async def test_the_next_owner_gets_all_that_was_put_back(lab):
    claim = await lab.hold()
    lab.forget()
    answer = await lab.store.readopt(SENIOR, lab.held(claim))
    await lab.store.release(SENIOR, claim._replace(fence=answer.fence), "drain")
    offered = await lab.offer(claim, JUNIOR)
    taken = await lab.store.accept(JUNIOR, offered)
    assert (taken.metadata, taken.checkpoint, taken.checkpoint_number) == (b'{"room":7}', b'{"frame":9}', 4)
    assert (taken.attempt, taken.cause, taken.created_at_ms) == (2, "handoff", 1_700_000_000_000)
    assert taken.trace == TRACE


async def test_the_idempotency_key_is_put_back(lab):
    claim = await lab.hold(key="mine")
    lab.forget()
    held = lab.held(claim, idempotency_key=idempotency_field("mine"), body_digest=digest("{}"))
    await lab.store.readopt(SENIOR, held)
    repeated = await lab.create(key="mine")
    assert (repeated.status, repeated.session_id) == ("repeated", claim.session_id)
    assert (await lab.create(key="mine", body="[]")).status == "conflict"


async def test_a_repeated_readoption_gets_the_same_fence(lab):
    claim = await lab.hold()
    lab.forget()
    first = await lab.store.readopt(SENIOR, lab.held(claim))
    again = await lab.store.readopt(SENIOR, lab.held(claim))
    assert (again.status, again.fence) == ("there", first.fence)
    events = [event.event for event in await lab.store.history("call")]
    assert events.count("session.readopted") == 1


async def test_a_readoption_that_comes_late_leaves_what_was_written_since(lab):
    claim = await lab.hold()
    lab.forget()
    first = await lab.store.readopt(SENIOR, lab.held(claim))
    mine = claim._replace(fence=first.fence)
    newer = lab.held(mine).checkpoint_number + 1
    await lab.store.checkpoint(SENIOR, mine, newer, b'{"frame":10}')
    for fence in (claim.fence, mine.fence):
        late = await lab.store.readopt(SENIOR, lab.held(claim._replace(fence=fence)))
        assert (late.status, late.fence) == ("there", first.fence)
    await lab.store.release(SENIOR, mine, "drain")
    taken = await lab.store.accept(JUNIOR, await lab.offer(mine, JUNIOR))
    assert (taken.checkpoint, taken.checkpoint_number) == (b'{"frame":10}', newer)


async def test_a_readoption_brings_no_checkpoint_back_that_is_older_than_the_one_that_is_there(lab):
    claim = await lab.hold()
    number = lab.held(claim).checkpoint_number + 1
    await lab.store.checkpoint(SENIOR, claim, number, b'{"frame":10}')
    before = lab.snapshot()
    newer = (await lab.store.renew(SENIOR, claim, new_fence=True)).fence
    lab.roll_back(before)
    back = await lab.store.readopt(SENIOR, lab.held(claim._replace(fence=newer)))
    assert back.status == "readopted"
    mine = claim._replace(fence=back.fence)
    await lab.store.release(SENIOR, mine, "drain")
    taken = await lab.store.accept(JUNIOR, await lab.offer(mine, JUNIOR))
    assert (taken.checkpoint, taken.checkpoint_number) == (b'{"frame":10}', number)


async def test_nothing_is_put_back_onto_a_tombstone(lab):
    claim = await lab.hold()
    await lab.store.cancel("call", "asked")
    assert (await lab.store.readopt(SENIOR, lab.held(claim))).status == "lost"
    assert (await lab.store.describe("call")).state == "cancelled"


async def test_nothing_is_put_back_into_a_call_that_a_younger_session_ended(lab):
    claim = await lab.hold()
    lab.forget()
    younger = await lab.hold(JUNIOR)
    await lab.store.complete(JUNIOR, younger)
    assert (await lab.store.readopt(SENIOR, lab.held(claim))).status == "lost"


async def test_nothing_is_put_back_into_a_call_whose_younger_session_was_cancelled(lab):
    claim = await lab.hold()
    lab.forget()
    await lab.hold(JUNIOR)
    await lab.store.cancel("call", "asked")
    assert (await lab.store.readopt(SENIOR, lab.held(claim))).status == "lost"


async def test_the_end_of_an_older_session_does_not_keep_a_younger_one_out(lab):
    older = await lab.hold(SENIOR)
    before = lab.snapshot()
    await lab.store.complete(SENIOR, older)
    younger = await lab.hold(JUNIOR)
    lab.roll_back(before)
    await lab.store.complete(SENIOR, older)
    assert (await lab.store.readopt(JUNIOR, lab.held(younger))).status == "readopted"


async def test_a_higher_fence_has_the_session(lab):
    claim = await lab.hold()
    newer = await lab.move(claim, JUNIOR)
    lab.forget()
    assert (await lab.store.readopt(JUNIOR, lab.held(newer))).status == "readopted"
    assert (await lab.store.readopt(SENIOR, lab.held(claim))).status == "lost"
    assert lab.record(claim).owner == JUNIOR.instance_id


async def test_a_lower_fence_gives_the_session_back_to_who_came_after(lab):
    claim = await lab.hold()
    before = lab.snapshot()
    newer = await lab.move(claim, JUNIOR)
    lab.roll_back(before)
    answer = await lab.store.readopt(JUNIOR, lab.held(newer))
    assert answer.status == "readopted"
    assert answer.fence > newer.fence
    assert lab.record(claim).owner == JUNIOR.instance_id


async def test_what_was_given_up_meanwhile_is_not_put_back(lab):
    claim = await lab.hold()
    await lab.store.release(SENIOR, claim, "drain")
    assert (await lab.store.readopt(SENIOR, lab.held(claim))).status == "lost"
    assert lab.record(claim).state == "pending"


async def test_what_was_put_back_is_found_by_sweeps_and_lists(lab):
    claim = await lab.hold()
    lab.forget()
    await lab.store.readopt(SENIOR, lab.held(claim))
    assert lab.indexes(claim) == {"leases"}
    assert await lab.store.sweep_dead(SENIOR.instance_id, 2, "process died") == 1
    page = await lab.store.calls(state=None, cursor=None, limit=10)
    assert [call.call_id for call in page.calls] == ["call"]
