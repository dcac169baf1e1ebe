"""Holding on to sessions: each outcome of a renewal, and who may revive what."""

import asyncio
import itertools
import math

import pytest
from harness.laboratory import JUNIOR, SENIOR, THIRD

from mediaflow.runtime.renewer import MOMENTS
from mediaflow.store import RENEWED, Claim, Holding, StoreError
from mediaflow.store.renewals import Renewals


async def remaining_ms(lab, claim):
    described = await lab.store.describe(claim.call_id)
    return {session.session_id: session.lease_remaining_ms for session in described.sessions}[
        claim.session_id
    ]


async def test_a_renewal_extends_the_lease(lab):
    claim = await lab.hold()
    partition = lab.keys.partition_of("call")
    leases = lab.keys.partition(partition)[1]
    lab.raw.zincrby(leases, -2_500, f"call/{claim.session_id}")
    assert await remaining_ms(lab, claim) <= 500
    assert (await lab.store.renew(SENIOR, claim)).status == "renewed"
    assert 2_000 < await remaining_ms(lab, claim) <= 3_000


async def test_an_owner_that_asks_for_it_gets_a_new_fence(lab):
    claim = await lab.hold()
    renewal = await lab.store.renew(SENIOR, claim, new_fence=True)
    assert renewal.status == "refenced"
    assert renewal.fence > claim.fence
    assert lab.current(claim).fence == renewal.fence


async def test_an_owner_that_missed_its_new_fence_is_told_it_again(lab):
    claim = await lab.hold()
    renewal = await lab.store.renew(SENIOR, claim, new_fence=True)
    again = await lab.store.renew(SENIOR, claim)
    assert (again.status, again.fence) == ("refenced", renewal.fence)


async def test_an_owner_that_lost_its_session_is_told_so(lab):
    claim = await lab.hold()
    moved = await lab.move(claim, JUNIOR)
    assert (await lab.store.renew(SENIOR, claim)).status == "lost"
    assert lab.current(claim) == moved


async def test_another_incarnation_of_the_owner_does_not_hold_its_sessions(lab):
    claim = await lab.hold()
    assert (await lab.store.renew(SENIOR._replace(incarnation=2), claim)).status == "lost"


async def test_an_owner_hears_of_a_cancel(lab):
    claim = await lab.hold()
    await lab.store.cancel("call", "asked")
    assert (await lab.store.renew(SENIOR, claim)).status == "cancelled"


async def test_a_session_that_redis_forgot_is_unknown(lab):
    claim = await lab.hold()
    lab.forget()
    assert (await lab.store.renew(SENIOR, claim)).status == "unknown"


async def test_a_swept_session_that_nobody_took_is_its_last_owners_again_under_the_same_fence(lab):
    claim = await lab.hold()
    await lab.orphan(claim)
    assert lab.record(claim).state == "pending"
    assert (await lab.store.renew(SENIOR, claim)).status == "renewed"
    assert lab.record(claim)[:2] == ("active", SENIOR.instance_id)
    assert lab.current(claim) == claim
    assert lab.indexes(claim) == {"leases"}
    assert (await lab.store.checkpoint(SENIOR, claim, 1, b"1")).status == "written"


async def test_a_swept_session_is_nobody_elses(lab):
    claim = await lab.hold()
    await lab.orphan(claim)
    assert (await lab.store.renew(JUNIOR, claim)).status == "lost"
    assert lab.record(claim).state == "pending"


async def test_a_fence_that_redis_never_heard_of_proves_that_it_lost_writes(lab):
    claim = await lab.hold()
    before = lab.snapshot()
    newer = await lab.move(claim, JUNIOR)
    lab.roll_back(before)
    assert lab.record(claim).owner == SENIOR.instance_id
    renewal = await lab.store.renew(JUNIOR, newer)
    assert renewal.status == "refenced"
    assert renewal.fence > newer.fence
    assert lab.record(claim)[:2] == ("active", JUNIOR.instance_id)
    assert (await lab.store.renew(SENIOR, claim)).status == "lost"


async def test_the_junior_of_two_siblings_yields_and_the_senior_gets_a_fence_above_all(lab):
    senior, junior = await lab.siblings()
    junior = junior._replace(fence=(await lab.store.renew(JUNIOR, junior)).fence)
    # The junior ended with its first renewal already; a second one tells the same.
    described = {one.session_id: one for one in (await lab.store.describe("call")).sessions}
    assert described[junior.session_id].state == "yielded"
    renewal = await lab.store.renew(SENIOR, senior)
    assert renewal.status in ("renewed", "refenced")
    assert lab.current(senior).fence == max(one.fence for one in described.values())


async def test_a_yield_names_its_winner_each_time_it_is_asked(lab):
    senior, junior = await lab.siblings()
    for _ in range(2):
        renewal = await lab.store.renew(JUNIOR, junior)
        assert (renewal.status, renewal.winner) == ("yielded", senior.session_id)


async def test_a_survivor_whose_fence_is_below_the_calls_last_gets_a_new_one(lab):
    senior, junior = await lab.siblings()
    higher = await lab.store.renew(SENIOR, senior)
    assert higher.status == "renewed", "the last of a call to be fenced is not fenced again"
    youngest = junior._replace(session_id="f" + junior.session_id[1:])
    newest = await lab.store.readopt(THIRD, lab.held(youngest))
    assert newest.fence > senior.fence
    renewal = await lab.store.renew(SENIOR, senior)
    assert renewal.status == "refenced"
    assert renewal.fence > newest.fence


async def test_an_offer_that_was_not_accepted_makes_nobody_yield(lab):
    senior, junior = await lab.siblings()
    partition = lab.keys.partition_of("call")
    await lab.store.release(SENIOR, senior, "drain")
    call = lab.keys.call(partition, "call")
    record = lab.raw.hget(call, f"s:{senior.session_id}").decode().split("|")
    record[:4] = ["active", "third", "1", SENIOR.rank]
    lab.raw.hset(call, f"s:{senior.session_id}", "|".join(record))
    lab.raw.zadd(lab.keys.partition(partition)[1], {f"call/{senior.session_id}": 10**15})
    assert (await lab.store.renew(JUNIOR, junior)).status in ("renewed", "refenced")


async def test_a_sibling_whose_lease_is_over_makes_nobody_yield(lab):
    senior, junior = await lab.siblings()
    lab.lapse(senior)
    assert (await lab.store.renew(JUNIOR, junior)).status == "refenced"


async def test_of_three_siblings_renewed_in_any_order_the_senior_one_survives(lab):
    senior, junior = await lab.siblings()
    youngest = junior._replace(session_id="f" + junior.session_id[1:])
    third = await lab.store.readopt(THIRD, lab.held(youngest))
    claims = {
        THIRD: youngest._replace(fence=third.fence),
        SENIOR: senior,
        JUNIOR: junior,
    }
    for owner, claim in claims.items():
        await lab.store.renew(owner, claim)
    described = await lab.store.describe("call")
    states = {one.instance_id: one.state for one in described.sessions}
    assert states == {"senior": "active", "junior": "yielded", "third": "yielded"}


@pytest.mark.parametrize("give_up", ["refuse", "release", "fail"])
async def test_no_late_renewal_revives_what_was_given_up(lab, give_up):
    claim = await lab.hold()
    if give_up == "fail":
        await lab.store.fail(SENIOR, claim, "boom", 0.0)
    else:
        await getattr(lab.store, give_up)(SENIOR, claim, "given up")
    assert (await lab.store.renew(SENIOR, claim)).status == "lost"
    assert lab.record(claim).state == "pending"


async def test_renewals_asked_for_together_are_answered_each_on_its_own(lab):
    held = await lab.hold(call_id="held")
    moved = await lab.hold(call_id="moved")
    await lab.move(moved, JUNIOR)
    ended = await lab.hold(call_id="ended")
    await lab.store.cancel("ended", "asked")
    fenced = await lab.hold(call_id="fenced")
    nowhere = Claim("nowhere", held.session_id, 7)
    answers = await asyncio.gather(
        *(lab.store.renew(SENIOR, claim) for claim in (held, moved, ended, nowhere)),
        lab.store.renew(SENIOR, fenced, new_fence=True),
    )
    assert [answer.status for answer in answers] == ["renewed", "lost", "cancelled", "unknown", "refenced"]


# -- many at once, of which nearly all need no more than a look -------------------------------------


async def renew_lot(lab, owner, *claims):
    """Renew as one lot."""
    lot = lab.store.lot([Holding(owner, claim) for claim in claims])
    ((*answers,),) = await lab.store.renew_many([lot])
    return answers


@pytest.fixture
def looks_only(monkeypatch):
    monkeypatch.setattr(Renewals, "_has_to_examine", lambda *_: False)


@pytest.fixture
def examines_all(monkeypatch):
    monkeypatch.setattr(Renewals, "_has_to_examine", lambda *_: True)


@pytest.fixture
def examines_for_the_server_alone(monkeypatch):
    monkeypatch.setattr("mediaflow.store.renewals.EXAMINED_EACH", 10**12)


async def in_one_partition(lab, number):
    """Hold sessions that one script may renew."""
    calls = (f"call-{one}" for one in itertools.count())
    of_one = (call_id for call_id in calls if lab.keys.partition_of(call_id) == 0)
    return [await lab.hold(call_id=call_id) for call_id in itertools.islice(of_one, number)]


async def test_a_look_extends_the_leases_of_all_that_are_held(lab, looks_only):
    claims = await in_one_partition(lab, 3)
    for claim in claims:
        lab.raw.zincrby(lab.keys.leases(0), -2_500, f"{claim.call_id}/{claim.session_id}")
    answers = await renew_lot(lab, SENIOR, *claims)
    assert all(answer is RENEWED for answer in answers)
    for claim in claims:
        assert 2_000 < await remaining_ms(lab, claim) <= 3_000


async def test_one_that_was_lost_is_told_so_and_the_others_are_renewed(lab, looks_only):
    held, moved, cancelled, fenced = await in_one_partition(lab, 4)
    await lab.move(moved, JUNIOR)
    await lab.store.cancel(cancelled.call_id, "asked")
    newer = await lab.store.renew(SENIOR, fenced, new_fence=True)
    answers = await renew_lot(lab, SENIOR, held, moved, cancelled, fenced)
    assert [answer.status for answer in answers] == ["renewed", "lost", "cancelled", "refenced"]
    assert answers[-1].fence == newer.fence
    assert await lab.look(SENIOR, fenced._replace(fence=newer.fence)) == [True]


async def test_nobody_holds_by_a_look_what_is_anothers(lab):
    claim = await lab.hold()
    for stranger in (JUNIOR, SENIOR._replace(incarnation=2)):
        assert await lab.look(stranger, claim) == [False]
    assert await lab.look(SENIOR, claim._replace(fence=claim.fence - 1)) == [False]
    assert await lab.look(SENIOR, claim) == [True]


@pytest.mark.parametrize("way", ["offered", "swept", "released", "with a sibling"])
async def test_a_look_is_not_enough_for_what_is_not_plainly_held(lab, way):
    claim, _ = await lab.siblings() if way == "with a sibling" else (await lab.hold(), None)
    if way == "released":
        await lab.store.release(SENIOR, claim, "drain")
    elif way != "with a sibling":
        await lab.orphan(claim)
    if way == "offered":
        claim = await lab.offer(claim, SENIOR)
    assert await lab.look(SENIOR, claim) == [False]


async def test_siblings_converge_though_their_owners_only_look(lab, looks_only):
    senior, junior = await lab.siblings()
    assert (await renew_lot(lab, JUNIOR, junior))[0].status == "yielded"
    (renewal,) = await renew_lot(lab, SENIOR, senior)
    survivor = senior._replace(fence=renewal.fence or senior.fence)
    assert await lab.look(SENIOR, survivor) == [True]


async def test_what_vanished_from_redis_is_missed_when_its_record_is_looked_at(lab, examines_all):
    claim = await lab.hold()
    lab.raw.delete(lab.keys.call(lab.keys.partition_of("call"), "call"))
    assert await lab.look(SENIOR, claim) == [True], "it is still said to be held"
    assert (await renew_lot(lab, SENIOR, claim))[0].status == "unknown"


async def test_a_look_is_enough_again_after_redis_lost_what_it_says_of_sessions(lab, looks_only):
    claim = await lab.hold()
    lab.raw.delete(lab.keys.partition(lab.keys.partition_of("call"))[6])
    assert await renew_lot(lab, SENIOR, claim) == [RENEWED]
    assert await lab.look(SENIOR, claim) == [True]


async def test_the_first_renewal_on_another_server_looks_at_the_record(
    memory_lab, examines_for_the_server_alone
):
    claim = await memory_lab.hold()
    lab, lot = memory_lab, memory_lab.store.lot([Holding(SENIOR, claim)])
    for _ in range(2):
        lab.raw.delete(lab.keys.call(lab.keys.partition_of("call"), "call"))
        ((renewal,),) = await lab.store.renew_many([lot])
        assert renewal.status == "unknown"
        claim = claim._replace(fence=(await lab.store.readopt(SENIOR, lab.held(claim))).fence)
        lot = lab.store.lot([Holding(SENIOR, claim)])
        assert await lab.store.renew_many([lot]) == [[RENEWED]]
        lab.store._asker.link.server.seen("memory", f"another, after {claim.fence}", "6.2")


async def test_the_first_renewal_on_another_server_looks_at_all_records_of_a_partition(
    memory_lab, examines_for_the_server_alone
):
    claims = await in_one_partition(memory_lab, 2)
    lots = [memory_lab.store.lot([Holding(SENIOR, claim)]) for claim in claims]
    for claim in claims:
        memory_lab.raw.delete(memory_lab.keys.call(0, claim.call_id))
    answers = await memory_lab.store.renew_many(lots)
    assert [answer.status for (answer,) in answers] == ["unknown", "unknown"]


@pytest.mark.parametrize("place", [0.5, 0.97], ids=["in the middle of an interval", "around its end"])
async def test_each_twentieth_renewal_looks_at_the_record(memory_lab, monkeypatch, place):
    lot = memory_lab.store.lot([Holding(SENIOR, await memory_lab.hold())])
    asked = []
    asker, ask = memory_lab.store._asker, memory_lab.store._asker.run_each

    async def overhear(calls, **options):
        asked.extend(call.script.name for call in calls)
        return await ask(calls, **options)

    monkeypatch.setattr(asker, "run_each", overhear)
    ttl_s, loop = memory_lab.settings.lease_ttl, asyncio.get_running_loop()
    began_s = math.ceil(loop.time() / ttl_s) * ttl_s
    for number in range(200):
        # As a renewer asks, which waits for the end of a moment: now a little sooner, now a little later.
        due = math.ceil((number + place) / 3 * MOMENTS) / MOMENTS
        monkeypatch.setattr(loop, "time", lambda due=due: began_s + due * ttl_s)
        await memory_lab.store.renew_many([lot])
    monkeypatch.undo()
    looks = [number for number, script in enumerate(asked) if script == "renew"]
    assert max(later - sooner for sooner, later in itertools.pairwise(looks)) <= 21
    assert len(looks) <= 15, "hardly more often than one of twenty"


async def test_a_damaged_record_costs_no_other_session_its_lease(lab):
    sound, damaged = await lab.hold(call_id="sound"), await lab.hold(call_id="damaged")
    key = lab.keys.call(lab.keys.partition_of("damaged"), "damaged")
    lab.raw.hset(key, f"s:{damaged.session_id}", "nonsense")
    answers = await asyncio.gather(
        lab.store.renew(SENIOR, sound), lab.store.renew(SENIOR, damaged), return_exceptions=True
    )
    assert answers[0].status == "renewed"
    assert isinstance(answers[1], StoreError)
    assert "malformed ownership record" in str(answers[1])
