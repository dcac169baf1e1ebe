"""Making sessions: a request repeated with its key never makes a second one, whatever happened meanwhile."""

import asyncio

from harness.laboratory import JUNIOR, SENIOR


async def test_an_instance_with_a_slot_owns_the_new_session_at_once(lab):
    made = await lab.create(owner=SENIOR)
    assert (made.status, made.first_created, made.state) == ("created", True, "active")
    assert (made.instance_id, made.incarnation, made.accepted) == (SENIOR.instance_id, 1, True)
    assert made.fence > 1_600_000_000_000_000, (
        "a fence is a time in µs, so that it grows also when Redis lost it"
    )


async def test_without_a_slot_the_session_waits_for_an_owner(lab):
    made = await lab.create()
    assert (made.status, made.first_created, made.state) == ("created", True, "pending")
    assert (made.instance_id, made.fence, made.accepted) == ("", 0, False)
    assert await lab.store.pending() == 1


async def test_without_a_slot_and_without_a_queue_nothing_is_made(lab):
    before = lab.all_keys()
    made = await lab.create(may_queue=False)
    assert (made.status, made.session_id) == ("absent", "")
    assert lab.all_keys() == before


async def test_without_a_slot_or_a_queue_the_session_that_is_there_is_found(lab):
    claim = await lab.hold()
    found = await lab.create(may_queue=False)
    assert (found.status, found.session_id) == ("existing", claim.session_id)


async def test_a_repeated_request_gets_its_first_answer_and_the_current_record(lab):
    first = await lab.create(owner=SENIOR, key="mine")
    repeated = await lab.create(owner=JUNIOR, key="mine")
    assert (repeated.status, repeated.session_id, repeated.first_created) == (
        "repeated",
        first.session_id,
        True,
    )
    assert (repeated.instance_id, repeated.fence) == (SENIOR.instance_id, first.fence)


async def test_a_repeated_request_learns_that_its_session_moved(lab):
    claim = await lab.hold(key="mine")
    moved = await lab.move(claim, JUNIOR)
    repeated = await lab.create(key="mine")
    assert (repeated.status, repeated.instance_id) == ("repeated", JUNIOR.instance_id)
    assert repeated.fence == moved.fence > claim.fence


async def test_a_repeated_request_finds_its_session_after_the_call_ended(lab):
    claim = await lab.hold(key="mine")
    await lab.store.complete(SENIOR, claim)
    repeated = await lab.create(owner=SENIOR, key="mine")
    assert (repeated.status, repeated.session_id) == ("repeated", claim.session_id)
    assert (repeated.first_created, repeated.state) == (True, "completed")


async def test_a_repeated_request_that_had_found_a_session_finds_the_same_again(lab):
    claim = await lab.hold()
    for status in ("existing", "repeated"):
        found = await lab.create(key="other")
        assert (found.status, found.session_id, found.first_created) == (status, claim.session_id, False)
    await lab.store.complete(SENIOR, claim)
    found = await lab.create(key="other")
    assert (found.status, found.session_id, found.first_created) == ("repeated", claim.session_id, False)


async def test_a_key_used_with_another_body_is_a_conflict(lab):
    await lab.hold(key="mine", body="{}")
    conflict = await lab.create(key="mine", body='{"room":1}')
    assert (conflict.status, conflict.session_id) == ("conflict", "")
    described = await lab.store.describe("call")
    assert len(described.sessions) == 1


async def test_a_key_belongs_to_its_call(lab):
    await lab.hold(key="mine")
    assert (await lab.create("another", key="mine", body="[]")).status == "created"


async def test_a_call_with_a_live_session_gets_no_second_one(lab):
    claim = await lab.queue()
    found = await lab.create(owner=SENIOR)
    assert (found.status, found.session_id, found.state) == ("existing", claim.session_id, "pending")


async def test_of_several_live_sessions_the_one_that_survives_is_named(lab):
    senior, _ = await lab.siblings()
    assert (await lab.create()).session_id == senior.session_id


async def test_a_running_session_is_named_before_a_waiting_one(lab):
    older, younger = await lab.siblings()
    await lab.store.release(SENIOR, older, "drain")
    assert (await lab.create()).session_id == younger.session_id


async def test_an_ended_call_starts_again_under_a_new_key_with_a_higher_fence(lab):
    claim = await lab.hold()
    await lab.store.complete(SENIOR, claim)
    again = await lab.create(owner=JUNIOR)
    assert again.status == "created"
    assert again.session_id != claim.session_id
    assert again.fence > claim.fence


async def test_requests_with_one_key_at_the_same_time_make_one_session(lab):
    made = await asyncio.gather(*(lab.create(owner=owner, key="mine") for owner in [SENIOR, JUNIOR] * 10))
    assert sorted(one.status for one in made) == ["created"] + ["repeated"] * 19
    assert len({one.session_id for one in made}) == 1
    assert all(one.first_created for one in made)


async def test_the_answers_remembered_for_one_call_are_bounded_and_its_own_is_never_forgotten(memory_lab):
    claim = await memory_lab.hold(key="mine")
    partition = memory_lab.keys.partition_of("call")
    answers = memory_lab.keys.idempotency(partition, "call")
    memory_lab.raw.hset(answers, mapping={f"old-{n}": f"0|{claim.session_id}|digest|{n}" for n in range(999)})
    await memory_lab.create(key="one more")
    assert memory_lab.raw.hlen(answers) < 600
    assert memory_lab.raw.hexists(answers, "old-998")
    assert not memory_lab.raw.hexists(answers, "old-0")
    found = await memory_lab.create(key="mine")
    assert (found.status, found.session_id) == ("repeated", claim.session_id)
