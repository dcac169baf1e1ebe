"""The table of steps in ``mediaflow.core.states`` tells the truth: the real scripts make just these.

First from every stage by every script, then on walks that lead wherever late, superseded and cut-off askers can get.
"""

import itertools

import pytest
from conftest import needs_redis
from harness.laboratory import JUNIOR, SENIOR, Laboratory
from harness.legality import problems
from harness.situations import SITUATIONS
from harness.topologies import InProcess, OneServer
from harness.wandering import Observatory, Seen, Walk

from mediaflow.core.states import ENDED, LIVE, NOTICE, STEPS, Stage, Step
from mediaflow.settings import Settings
from mediaflow.store import Claim, Owner, SessionRef, open_store

LISTED = {Seen(step.source, step.target, step.script, tuple(sorted(step.events))): step for step in STEPS}
CAUSES = ("created", "takeover", "handoff")
AHEAD = 10**9


class Found:
    """What was seen of the scripts, compared with the table."""

    def __init__(self) -> None:
        self.steps: set[Step] = set()

    def add(self, seen: list[Seen], about: str) -> None:
        for one in seen:
            if one.events == (NOTICE,):
                assert one.source == one.target, f"{about}: {one} is more than a notice"
                continue
            assert one in LISTED, f"{about}: {one} is not in core/states.py"
            self.steps.add(LISTED[one])


async def observed(topology) -> tuple[Laboratory, Observatory]:
    topology.empty()
    settings = Settings(
        redis_url=topology.url, lease_ttl=3.0, accept_ttl=2.0, retention=60.0, partitions=1, max_attempts=3
    )
    store = await open_store(settings)
    await store.check()
    lab = Laboratory(store, settings, topology.raw)
    return lab, Observatory(lab)


async def anew(lab: Laboratory) -> None:
    lab.forget()
    await lab.store.check()


async def reach(lab: Laboratory, stage: Stage, owner: Owner, cause: str = "created") -> Claim:
    """Bring a new session to a stage, in which ``owner`` is who it names, or named last."""
    if cause == "created":
        claim = await lab.offer(await lab.queue(), owner)
    else:
        claim = await lab.hold(JUNIOR if owner is SENIOR else SENIOR)
        if cause == "takeover":
            await lab.orphan(claim)
        else:
            await lab.store.release(JUNIOR if owner is SENIOR else SENIOR, claim, "drain")
        claim = await lab.offer(claim, owner)
    if stage == "pending":
        await lab.orphan(claim)
    if stage == "active":
        await lab.store.accept(owner, claim)
    return claim


async def beside_its_senior(lab: Laboratory, stage: Stage) -> Claim:
    """Bring a session of ``JUNIOR`` to a stage, one whose call has a senior session that runs."""
    _, claim = await lab.siblings()
    if stage != "active":
        await lab.orphan(claim)
    if stage == "offered":
        leases = lab.keys.partition(0)[1]
        held = lab.raw.zrange(leases, 0, -1, withscores=True)
        lab.raw.delete(leases)  # or else it yields instead of being offered
        claim = await lab.offer(claim, JUNIOR)
        lab.raw.zadd(leases, dict(held))
    return claim


async def senior_to_a(lab: Laboratory, stage: Stage) -> Claim:
    """Return a session of ``SENIOR`` that runs, and whose junior sibling is at a stage."""
    await beside_its_senior(lab, stage)
    names = [name.decode()[2:] for name in lab.raw.hkeys(lab.keys.call(0, "call")) if name.startswith(b"s:")]
    claims = [lab.current(Claim("call", name, 0)) for name in names]
    return next(claim for claim in claims if lab.record(claim).owner == SENIOR.instance_id)


async def every_script_from(lab: Laboratory, stage: Stage) -> None:
    """From one stage, ask each script for all that it may be asked for."""
    store = lab.store

    async def renew(claim: Claim) -> None:
        await store.renew(SENIOR, claim)

    async def renew_after_a_roll_back(claim: Claim) -> None:
        await store.renew(SENIOR, claim._replace(fence=claim.fence + AHEAD))

    async def readopt_after_a_roll_back(claim: Claim) -> None:
        await store.readopt(SENIOR, lab.held(claim._replace(fence=claim.fence + AHEAD)))

    async def renew_for_a_new_fence(claim: Claim) -> None:
        await store.renew(SENIOR, claim, new_fence=True)

    async def release(claim: Claim) -> None:
        await store.release(SENIOR, claim, "drain")

    async def fail_for_the_last_time(claim: Claim) -> None:
        lab.raw.hset(lab.keys.session(0, claim.session_id), "failures", 2)
        await store.fail(SENIOR, claim, "boom", 0.0)

    async def complete(claim: Claim) -> None:
        await store.complete(SENIOR, claim)

    async def cancel(claim: Claim) -> None:
        await store.cancel(claim.call_id, "asked")

    async def sweep(claim: Claim) -> None:
        lab.lapse(claim)
        await store.sweep(0, [SessionRef(claim.call_id, claim.session_id)])

    for ask in (
        renew,
        renew_after_a_roll_back,
        readopt_after_a_roll_back,
        renew_for_a_new_fence,
        release,
        fail_for_the_last_time,
        complete,
        cancel,
        sweep,
    ):
        await anew(lab)
        await ask(await reach(lab, stage, SENIOR))
    for cause in CAUSES:
        await anew(lab)
        await store.accept(SENIOR, await reach(lab, stage, SENIOR, cause))
    await anew(lab)
    await store.renew(JUNIOR, await beside_its_senior(lab, stage))
    await anew(lab)
    await store.complete(JUNIOR, await beside_its_senior(lab, stage))
    await anew(lab)
    await store.complete(SENIOR, await senior_to_a(lab, stage))


async def forgotten_once_it_has(lab: Laboratory, stage: Stage) -> None:
    """Have a call be asked for again when the retention of an ended session is over."""
    claim = await lab.hold()
    call = lab.keys.call(0, "call")
    record = lab.raw.hget(call, f"s:{claim.session_id}").split(b"|")
    lab.raw.hset(call, f"s:{claim.session_id}", b"|".join([stage.encode(), *record[1:-1], b"1"]))
    await lab.hold()


async def test_the_scripts_make_every_step_that_is_listed_and_no_other():
    topology = InProcess()
    found = Found()
    lab, observatory = await observed(topology)
    for name, (_, prepare) in SITUATIONS.items():
        await anew(lab)
        await (await prepare(lab))()
        found.add(observatory.take(), name)
    for stage in LIVE:
        await every_script_from(lab, stage)
        found.add(observatory.take(), f"from {stage}")
    for stage in ENDED:
        await anew(lab)
        await forgotten_once_it_has(lab, stage)
        found.add(observatory.take(), f"forgotten: {stage}")
    await lab.store.close()
    topology.close()
    assert [step for step in STEPS if step not in found.steps] == [], "listed, but never made"


@pytest.mark.parametrize("seed", range(2))
async def test_no_late_or_superseded_asker_brings_a_session_where_it_should_not_be(seed):
    topology = InProcess()
    lab, observatory = await observed(topology)
    walk = Walk(lab, seed)
    await walk.go(120)
    assert problems(lab) == []
    assert walk.looks
    seen = observatory.take()
    assert len(seen) > 30
    Found().add(seen, f"seed {seed}")
    await lab.store.close()
    topology.close()


@pytest.mark.slow
@pytest.mark.redis
async def test_nor_does_any_of_many_on_a_real_server():
    needs_redis()
    server = OneServer()
    try:
        for seed in range(100, 160):
            lab, observatory = await observed(server)
            await Walk(lab, seed).go(300)
            assert problems(lab) == []
            Found().add(observatory.take(), f"seed {seed}")
            await lab.store.close()
    finally:
        server.close()


def test_every_step_is_listed_once():
    assert len(LISTED) == len(STEPS)
    for one, other in itertools.combinations(STEPS, 2):
        assert one[:4] != other[:4]
