"""Messages: an inbox for each instance, and hints for everyone; a listener first looks for itself."""

import asyncio
import contextlib

import pytest
from harness.laboratory import SENIOR, report

from mediaflow.store import Assignments, Changed, Claim, Hint


@contextlib.asynccontextmanager
async def listening(messages):
    """Hand out a function that waits for the next message."""

    async def following():
        async with asyncio.timeout(5):
            return await anext(messages)

    try:
        assert await following() == Changed("resync")
        yield following
    finally:
        await messages.aclose()


async def test_an_instance_hears_of_an_assignment(lab):
    claim = await lab.queue()
    async with listening(lab.store.inbox(SENIOR.instance_id)) as following:
        offered = await lab.offer(claim, SENIOR)
        assert await following() == Assignments((offered,), SENIOR.incarnation)


async def test_an_instance_hears_of_all_that_one_batch_gave_it(lab):
    call_ids = [name for name in (f"call-{n}" for n in range(40)) if lab.keys.partition_of(name) == 1][:3]
    claims = [await lab.queue(call_id) for call_id in call_ids]
    async with listening(lab.store.inbox(SENIOR.instance_id)) as following:
        for claim in claims:
            await lab.assign(claim, SENIOR, "batch")
        heard = {claim.call_id for _ in claims for claim in (await following()).claims}
    assert heard == set(call_ids)


async def test_a_repeated_assignment_is_told_again(lab):
    claim = await lab.queue()
    async with listening(lab.store.inbox(SENIOR.instance_id)) as following:
        await lab.assign(claim, SENIOR, "once")
        first = await following()
        await lab.assign(claim, SENIOR, "once")
        assert await following() == first


async def test_an_owner_hears_a_hint_when_its_call_is_cancelled(lab):
    claim = await lab.hold()
    async with listening(lab.store.inbox(SENIOR.instance_id)) as following:
        await lab.store.cancel("call", "asked")
        assert await following() == Hint(claim.session_id)


async def test_the_junior_hears_a_hint_when_the_senior_completes(lab):
    senior, junior = await lab.siblings()
    async with listening(lab.store.inbox("junior")) as following:
        await lab.store.complete(SENIOR, senior)
        assert await following() == Hint(junior.session_id)


@pytest.mark.parametrize("cause", ["queue", "release"])
async def test_everyone_hears_that_a_session_waits(lab, cause):
    claim = await lab.hold()
    async with listening(lab.store.changes()) as following:
        if cause == "queue":
            await lab.queue("another")
        else:
            await lab.store.release(SENIOR, claim, "drain")
        assert await following() == Changed("pending")


async def test_everyone_hears_that_an_instance_came_filled_up_drains_and_went(lab):
    async with listening(lab.store.changes()) as following:
        beat = await lab.store.heartbeat(report())
        assert await following() == Changed("instances")
        known = {"incarnation": beat.incarnation}
        await lab.store.heartbeat(report(**known, used=5))
        await lab.store.heartbeat(report(**known, used=10))
        assert await following() == Changed("instances")
        await lab.store.heartbeat(report(**known, state="draining"))
        assert await following() == Changed("instances", draining="one")
        await lab.store.leave("one", beat.incarnation, "drained")
        assert await following() == Changed("instances")


async def test_a_listener_does_not_hear_what_is_meant_for_others(lab):
    mine, other = await lab.hold(SENIOR, "mine"), await lab.queue("other")
    async with listening(lab.store.inbox(SENIOR.instance_id)) as following:
        await lab.offer(other, SENIOR._replace(instance_id="senior2"))
        await lab.store.cancel("mine", "asked")
        assert await following() == Hint(mine.session_id)


async def test_a_call_id_of_every_allowed_character_comes_through(lab):
    claim = await lab.queue("A0._~:@+-")
    async with listening(lab.store.inbox(SENIOR.instance_id)) as following:
        offered = await lab.offer(claim, SENIOR)
        assert await following() == Assignments((Claim("A0._~:@+-", claim.session_id, offered.fence),), 1)
