"""What if a script stops in the middle? Redis would keep what it wrote; every such state must be legal.

Each script is made to fail at its first, second, … last command, in situations that make it take each of its
ways. Then three things must hold. What it left behind is legal. The same request, asked again, leads to the
outcome that it would have had. And if nobody asks again, the watchdog's ordinary rounds put all in order.
"""

from importlib import resources

import pytest
from harness.cutting import MOST_COMMANDS, cut_off, tamper_with, was_cut
from harness.laboratory import SENIOR, Laboratory
from harness.legality import LIVE, outcome, problems, settle, stored_calls
from harness.situations import SITUATIONS, Request

from mediaflow.store import StoreError
from mediaflow.store.scripts import load

pytestmark = pytest.mark.redis

MAKERS = ("create", "readopt")


async def is_cut(lab: Laboratory, request: Request, script: str, fail_at: int) -> bool:
    """Ask with the script cut off at a command; tells whether it came to that."""
    link = tamper_with(lab.store)
    link.script, link.tamper = script, lambda text: cut_off(text, fail_at)
    try:
        await request()
    except StoreError as error:
        if not was_cut(error):
            raise
        return True
    finally:
        link.remove(lab.store)
    return False


@pytest.mark.parametrize("name", SITUATIONS)
async def test_a_script_that_stops_in_the_middle_harms_nothing(bare_lab, name):
    lab = bare_lab
    script, prepare = SITUATIONS[name]
    request = await prepare(lab)
    before = lab.snapshot()
    lab.rewind(before)
    assert problems(lab) == []
    await request()
    expected = outcome(lab)
    assert problems(lab) == []
    await settle(lab)
    assert problems(lab, settled=True) == []
    expected_in_the_end = outcome(lab, settled=True)

    lab.rewind(before)
    start = lab.contents()
    for fail_at in range(1, MOST_COMMANDS):
        if not await is_cut(lab, request, script, fail_at):
            break
        if lab.contents() == start:
            continue  # It was still reading.
        left_behind = lab.snapshot()
        where = f"cut off before command {fail_at}"
        assert problems(lab) == [], where
        await request()
        assert problems(lab) == [], f"{where}, asked again"
        assert outcome(lab) == expected, f"{where}, asked again"
        await settle(lab)
        assert problems(lab, settled=True) == [], f"{where}, asked again, settled"
        assert outcome(lab, settled=True) == expected_in_the_end, f"{where}, asked again, settled"
        lab.rewind(left_behind)
        await settle(lab)
        assert problems(lab, settled=True) == [], f"{where}, settled"
        await request()
        assert problems(lab) == [], f"{where}, settled, asked again"
        if script in MAKERS:
            await settle(lab)
            for call in stored_calls(lab):
                alive = [record for record in call.records.values() if record.state in LIVE]
                assert len(alive) <= 1, f"{where}: two sessions where one was asked for"
        lab.rewind(before)
        start = lab.contents()
    else:
        pytest.fail(f"{script} runs more than {MOST_COMMANDS} commands")
    assert fail_at > 1


@pytest.mark.parametrize("name", SITUATIONS)
async def test_a_key_of_a_wrong_type_stops_a_script_before_its_first_write(bare_lab, name):
    lab = bare_lab
    script, prepare = SITUATIONS[name]
    request = await prepare(lab)
    before = lab.snapshot()
    link = tamper_with(lab.store)
    link.script = script
    await request()
    keys = list(dict.fromkeys(link.keys))
    assert keys
    refused = 0
    for key in keys:
        lab.rewind(before)
        lab.raw.delete(key)
        lab.raw.rpush(key, "of a wrong type")
        wrong = lab.contents()
        try:
            await request()
        except StoreError as error:
            if "WRONGTYPE" not in str(error):
                raise
            refused += 1
            assert lab.contents() == wrong, key
        assert lab.raw.lrange(key, 0, -1) == [b"of a wrong type"], key
    assert refused


CORRUPTIONS = {
    "no lease will ever lapse": lambda lab, key: lab.raw.delete(lab.keys.partition(0)[1]),
    "nobody will ever assign it": lambda lab, key: lab.raw.delete(lab.keys.partition(0)[2]),
    "not found when its owner": lambda lab, key: lab.raw.delete(lab.keys.owned(0, SENIOR.instance_id)),
    "is above its call's": lambda lab, key: lab.raw.hset(key, "fence", 1),
    "will expire under a live call": lambda lab, key: lab.raw.expire(key, 9),
    "live, but not listed": lambda lab, key: lab.raw.delete(lab.keys.partition(0)[3]),
    "belongs to no record": lambda lab, key: lab.raw.hset(lab.keys.session(0, "stray"), "metadata", "{}"),
    "never expires": lambda lab, key: lab.raw.persist(lab.keys.call(0, "over")),
    "said to be held": lambda lab, key: lab.raw.hset(lab.keys.partition(0)[6], "call/stray", "senior|1|9"),
    "listed for ever": lambda lab, key: lab.raw.delete(lab.keys.partition(0)[4]),
}


@pytest.mark.parametrize("about", CORRUPTIONS)
async def test_what_would_be_illegal_is_seen(bare_lab, about):
    await bare_lab.hold()
    await bare_lab.queue("waiting")
    await bare_lab.store.complete(SENIOR, await bare_lab.hold(call_id="over"))
    assert problems(bare_lab) == []
    CORRUPTIONS[about](bare_lab, bare_lab.keys.call(0, "call"))
    found = problems(bare_lab)
    assert found
    assert all(about in problem for problem in found)


def test_every_script_has_a_situation():
    files = resources.files("mediaflow.store").joinpath("lua").iterdir()
    # Scripts on streams keep no index; test_streams.py makes them fail.
    scripts = {file.name.removesuffix(".lua") for file in files if not file.name.startswith(("_", "stream_"))}
    assert scripts == {script for script, _ in SITUATIONS.values()}
    assert all(load(script).plain for script in scripts)
