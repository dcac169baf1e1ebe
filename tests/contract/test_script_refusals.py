"""What if Redis has no memory left, or someone kills a script? A script does all of it, or nothing.

Memory that is full refuses only what would make more of it needed: new calls and new streams. Scripts that keep or
free things go through, so that what runs goes on. SCRIPT KILL is possible only before the first write; after it,
others hear BUSY until the script has ended. Killed or BUSY, a request is asked again and comes to its outcome.
"""

import asyncio
import functools

import pytest
import redis
from harness.cutting import busy, dawdling, endless, kill_script, no_memory_left, rounds_in, slow_once
from harness.laboratory import SENIOR, Laboratory, report
from harness.legality import outcome, problems
from harness.situations import SITUATIONS, Request

from mediaflow.store import Claim, StoreUnavailable, open_store
from mediaflow.store.scripts import load

pytestmark = pytest.mark.redis

DAWDLES_FOR_S = 1.0
ONE_OF_EACH = {script: name for name, (script, _) in reversed(SITUATIONS.items())}
WRITERS = sorted(ONE_OF_EACH.keys() - {"describe", "roster"})
CAREFUL = {"create", "describe"}
"""Scripts without the flag allow-oom: one makes calls, the other writes nothing."""


async def prepared(lab: Laboratory, name: str) -> tuple[Request, dict[bytes, tuple[bytes, int]]]:
    """Make a situation; returns its request, and a snapshot of before it."""
    request = await SITUATIONS[name][1](lab)
    before = lab.snapshot()
    lab.rewind(before)
    return request, before


# -- memory ----------------------------------------------------------------------------------------


def test_only_what_makes_calls_and_streams_is_refused_when_memory_is_full():
    careful = {script for script in ONE_OF_EACH if "allow-oom" not in load(script).flagged.partition("\n")[0]}
    assert careful == CAREFUL
    for script in ("stream_start", "stream_beat", "stream_stop"):
        assert ("allow-oom" in load(script).flagged.partition("\n")[0]) == (script != "stream_start")


@pytest.mark.parametrize("name", SITUATIONS)
async def test_with_full_memory_a_script_does_all_of_it_or_nothing(bare_lab, name):
    lab = bare_lab
    request, before = await prepared(lab, name)
    await request()
    expected = outcome(lab)
    lab.rewind(before)
    start = lab.contents()
    refused = False
    with no_memory_left(lab.raw):
        try:
            await request()
        except StoreUnavailable as error:
            if "maxmemory" not in str(error):
                raise
            refused = True
    assert problems(lab) == []
    if refused:
        assert SITUATIONS[name][0] == "create"
        assert lab.contents() == start, "what is refused changes nothing"
        await request()
    assert outcome(lab) == expected


# -- killed, and busy ------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [1, 0], ids=["at its first command", "before its first write"])
@pytest.mark.parametrize("script", WRITERS)
async def test_a_script_that_is_killed_has_changed_nothing_and_is_asked_again(bare_lab, script, stop_at):
    lab = bare_lab
    request, before = await prepared(lab, ONE_OF_EACH[script])
    await request()
    expected = outcome(lab)
    lab.rewind(before)
    start = lab.contents()
    with slow_once(lab.store, lab.raw, script, functools.partial(endless, stop_at=stop_at)) as link:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(request())
            await busy(lab.raw)
            await kill_script(lab.raw)
            assert lab.contents() == start
            link.let_through.set()
    assert problems(lab) == []
    assert outcome(lab) == expected


async def test_whoever_asks_while_a_script_takes_long_gets_an_answer_when_it_is_over(bare_lab):
    """After its first write a script cannot be killed: all there is to do is to ask again."""
    lab = bare_lab
    claim = await lab.hold(call_id="other")
    other = await open_store(lab.settings)
    rounds = rounds_in(lab.raw, DAWDLES_FOR_S)
    with slow_once(lab.store, lab.raw, "create", functools.partial(dawdling, rounds=rounds)) as link:
        link.let_through.set()
        async with asyncio.TaskGroup() as tasks:
            # On a busy machine this takes longer than one try, and the second hears of what the first has made.
            creating = tasks.create_task(lab.create(owner=SENIOR, timeout_s=20.0))
            await busy(lab.raw)
            with pytest.raises(redis.ResponseError, match="UNKILLABLE"):
                lab.raw.script_kill()
            renewed = await other.renew(SENIOR, claim, timeout_s=20.0)
    await other.close()
    assert renewed.status == "renewed"
    made = creating.result()
    assert made.first_created
    assert lab.record(Claim("call", made.session_id, made.fence)).state == "active"
    assert problems(lab) == []


async def test_whoever_has_no_time_to_wait_for_a_busy_redis_is_told_that_it_may_have_happened(bare_lab):
    lab = bare_lab
    other = await open_store(lab.settings)
    await other.check()
    with slow_once(lab.store, lab.raw, "create", functools.partial(endless, stop_at=1)) as link:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lab.hold())
            await busy(lab.raw)
            with pytest.raises(StoreUnavailable, match="BUSY"):
                await other.heartbeat(report(), timeout_s=0.1)
            await kill_script(lab.raw)
            link.let_through.set()
    await other.close()
