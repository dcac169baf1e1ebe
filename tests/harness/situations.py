"""Situations in which each script takes each of its ways, and one request that runs it there."""

from collections.abc import Awaitable, Callable
from typing import Any

from harness.laboratory import JUNIOR, SENIOR, THIRD, TRACE, Laboratory, digest, report
from mediaflow.core import names
from mediaflow.store import Claim, Grant, NewSession, Owner, SessionRef

Request = Callable[[], Awaitable[Any]]
Situation = Callable[[Laboratory], Awaitable[Request]]

SITUATIONS: dict[str, tuple[str, Situation]] = {}


def situation(script: str) -> Callable[[Situation], Situation]:
    """Register a situation for a script; its name says what it is."""

    def register(prepare: Situation) -> Situation:
        SITUATIONS[f"{script}: {prepare.__name__.replace('_', ' ')}"] = (script, prepare)
        return prepare

    return register


def new_session(owner: Owner | None, *, key: str = "mine", may_queue: bool = True) -> NewSession:
    return NewSession(
        call_id="call",
        session_id=names.session_id(1_800_000_000_000, 0, 1),
        idempotency_key=key,
        body_digest=digest("{}"),
        metadata=b'{"room":7}',
        owner=owner,
        may_queue=may_queue,
        trace=TRACE,
    )


# -- create --------------------------------------------------------------------------------------


@situation("create")
async def a_new_call_with_an_owner(lab: Laboratory) -> Request:
    return lambda: lab.store.create(new_session(SENIOR))


@situation("create")
async def a_new_call_without_an_owner(lab: Laboratory) -> Request:
    return lambda: lab.store.create(new_session(None))


@situation("create")
async def a_live_call(lab: Laboratory) -> Request:
    await lab.hold()
    return lambda: lab.store.create(new_session(JUNIOR))


@situation("create")
async def an_ended_call(lab: Laboratory) -> Request:
    await lab.store.complete(SENIOR, await lab.hold())
    return lambda: lab.store.create(new_session(JUNIOR))


@situation("create")
async def an_ended_call_to_be_queued(lab: Laboratory) -> Request:
    await lab.hold()
    await lab.store.cancel("call", "asked")
    return lambda: lab.store.create(new_session(None))


@situation("create")
async def a_call_whose_last_session_ended_long_ago(lab: Laboratory) -> Request:
    claim = await lab.hold()
    await lab.store.complete(SENIOR, claim)
    call = lab.keys.call(0, "call")
    record = lab.raw.hget(call, f"s:{claim.session_id}").rpartition(b"|")[0] + b"|1"
    lab.raw.hset(call, f"s:{claim.session_id}", record)
    return lambda: lab.store.create(new_session(JUNIOR))


@situation("create")
async def a_known_key(lab: Laboratory) -> Request:
    await lab.store.create(new_session(SENIOR))
    return lambda: lab.store.create(new_session(JUNIOR))


# -- renew ---------------------------------------------------------------------------------------


@situation("renew")
async def a_lease(lab: Laboratory) -> Request:
    claim = await lab.hold()
    return lambda: lab.store.renew(SENIOR, claim)


@situation("renew")
async def a_lease_of_which_nothing_is_said(lab: Laboratory) -> Request:
    claim = await lab.hold()
    lab.raw.delete(lab.keys.partition(0)[6])
    return lambda: lab.store.renew(SENIOR, claim)


@situation("renew_held")
async def some_leases(lab: Laboratory) -> Request:
    claims = [await lab.hold(call_id=f"call-{number}") for number in range(3)]
    return lambda: lab.look(SENIOR, *claims)


@situation("renew_held")
async def a_lease_beside_one_that_was_lost(lab: Laboratory) -> Request:
    held, lost = await lab.hold(), await lab.hold(call_id="other")
    await lab.move(lost, JUNIOR)
    return lambda: lab.look(SENIOR, held, lost)


@situation("renew_held")
async def a_lease_with_siblings(lab: Laboratory) -> Request:
    senior, _ = await lab.siblings()
    return lambda: lab.look(SENIOR, senior)


@situation("renew")
async def a_lease_for_a_new_fence(lab: Laboratory) -> Request:
    claim = await lab.hold()
    return lambda: lab.store.renew(SENIOR, claim, new_fence=True)


@situation("renew")
async def a_swept_session(lab: Laboratory) -> Request:
    claim = await lab.hold()
    await lab.orphan(claim)
    return lambda: lab.store.renew(SENIOR, claim)


@situation("renew")
async def a_lost_session(lab: Laboratory) -> Request:
    claim = await lab.hold()
    await lab.move(claim, JUNIOR)
    return lambda: lab.store.renew(SENIOR, claim)


@situation("renew")
async def a_cancelled_session(lab: Laboratory) -> Request:
    claim = await lab.hold()
    await lab.store.cancel("call", "asked")
    return lambda: lab.store.renew(SENIOR, claim)


@situation("renew")
async def the_junior_of_two_siblings(lab: Laboratory) -> Request:
    _, junior = await lab.siblings()
    return lambda: lab.store.renew(JUNIOR, junior)


@situation("renew")
async def the_senior_of_two_siblings(lab: Laboratory) -> Request:
    senior, junior = await lab.siblings()
    youngest = junior._replace(session_id="f" + junior.session_id[1:])
    await lab.store.readopt(JUNIOR, lab.held(youngest))
    return lambda: lab.store.renew(SENIOR, senior)


@situation("renew")
async def a_session_that_was_rolled_back(lab: Laboratory) -> Request:
    claim = await lab.hold()
    before = lab.snapshot()
    newer = await lab.move(claim, JUNIOR)
    lab.roll_back(before)
    return lambda: lab.store.renew(JUNIOR, newer)


@situation("renew")
async def a_session_that_was_rolled_back_beside_its_senior(lab: Laboratory) -> Request:
    _, junior = await lab.siblings()
    return lambda: lab.store.renew(JUNIOR, junior._replace(fence=junior.fence + 10**9))


# -- accept --------------------------------------------------------------------------------------


@situation("accept")
async def an_offer(lab: Laboratory) -> Request:
    offered = await lab.offer(await lab.queue(), SENIOR)
    return lambda: lab.store.accept(SENIOR, offered)


@situation("accept")
async def an_offer_that_lapsed(lab: Laboratory) -> Request:
    offered = await lab.offer(await lab.queue(), SENIOR)
    await lab.orphan(offered)
    return lambda: lab.store.accept(SENIOR, offered)


@situation("accept")
async def a_takeover(lab: Laboratory) -> Request:
    claim = await lab.hold()
    await lab.orphan(claim)
    offered = await lab.offer(claim, JUNIOR)
    return lambda: lab.store.accept(JUNIOR, offered)


# -- readopt -------------------------------------------------------------------------------------


@situation("readopt")
async def what_redis_forgot(lab: Laboratory) -> Request:
    claim = await lab.hold()
    lab.forget()
    await lab.store.check()
    return lambda: lab.store.readopt(SENIOR, lab.held(claim, idempotency_key="field"))


@situation("readopt")
async def what_redis_rolled_back(lab: Laboratory) -> Request:
    claim = await lab.hold()
    before = lab.snapshot()
    newer = await lab.move(claim, JUNIOR)
    lab.roll_back(before)
    return lambda: lab.store.readopt(JUNIOR, lab.held(newer))


@situation("readopt")
async def what_redis_rolled_back_under_the_same_owner(lab: Laboratory) -> Request:
    claim = await lab.hold()
    before = lab.snapshot()
    newer = claim._replace(fence=(await lab.store.renew(SENIOR, claim, new_fence=True)).fence)
    lab.roll_back(before)

    async def request() -> None:
        answer = await lab.store.readopt(SENIOR, lab.held(newer))
        assert answer.status == "lost" or answer.fence > newer.fence, "an owner never takes a lower fence"

    return request


@situation("readopt")
async def what_waits_for_an_owner_since_a_roll_back(lab: Laboratory) -> Request:
    claim = await lab.queue()
    before = lab.snapshot()
    newer = await lab.give(claim, JUNIOR)
    lab.roll_back(before)
    return lambda: lab.store.readopt(JUNIOR, lab.held(newer))


@situation("readopt")
async def into_an_ended_call(lab: Laboratory) -> Request:
    older = await lab.hold(SENIOR)
    before = lab.snapshot()
    await lab.store.complete(SENIOR, older)
    younger = await lab.hold(JUNIOR)
    lab.roll_back(before)
    await lab.store.complete(SENIOR, older)
    return lambda: lab.store.readopt(JUNIOR, lab.held(younger))


@situation("readopt")
async def a_sibling(lab: Laboratory) -> Request:
    one = await lab.hold(SENIOR)
    lab.forget()
    await lab.hold(JUNIOR)
    return lambda: lab.store.readopt(SENIOR, lab.held(one))


# -- relinquish ----------------------------------------------------------------------------------


@situation("relinquish")
async def a_refused_offer(lab: Laboratory) -> Request:
    offered = await lab.offer(await lab.queue(), SENIOR)
    return lambda: lab.store.refuse(SENIOR, offered, "no slot")


@situation("relinquish")
async def a_handoff(lab: Laboratory) -> Request:
    claim = await lab.hold()
    return lambda: lab.store.release(SENIOR, claim, "drain")


@situation("relinquish")
async def a_handoff_after_a_sweep(lab: Laboratory) -> Request:
    claim = await lab.hold()
    await lab.orphan(claim)
    return lambda: lab.store.release(SENIOR, claim, "drain")


@situation("relinquish")
async def a_failed_attempt(lab: Laboratory) -> Request:
    claim = await lab.hold()
    return lambda: lab.store.fail(SENIOR, claim, "boom", 0.0)


@situation("relinquish")
async def the_last_failed_attempt(lab: Laboratory) -> Request:
    claim = await lab.hold()
    for _ in range(2):
        await lab.store.fail(SENIOR, claim, "boom", 0.0)
        claim = await lab.give(claim, SENIOR)
    last = claim
    return lambda: lab.store.fail(SENIOR, last, "boom", 0.0)


# -- write ---------------------------------------------------------------------------------------


@situation("write")
async def a_checkpoint(lab: Laboratory) -> Request:
    claim = await lab.hold()
    await lab.store.checkpoint(SENIOR, claim, 1, b"1")
    return lambda: lab.store.checkpoint(SENIOR, claim, 2, b"2")


@situation("write")
async def some_details(lab: Laboratory) -> Request:
    claim = await lab.hold()
    return lambda: lab.store.publish(SENIOR, claim, 1, b"{}")


# -- complete and cancel -------------------------------------------------------------------------


@situation("complete")
async def the_only_session(lab: Laboratory) -> Request:
    claim = await lab.hold()
    return lambda: lab.store.complete(SENIOR, claim)


@situation("complete")
async def the_senior(lab: Laboratory) -> Request:
    senior, _ = await lab.siblings()
    return lambda: lab.store.complete(SENIOR, senior)


@situation("complete")
async def the_junior(lab: Laboratory) -> Request:
    _, junior = await lab.siblings()
    return lambda: lab.store.complete(JUNIOR, junior)


@situation("complete")
async def beside_a_sibling_that_waits(lab: Laboratory) -> Request:
    senior, junior = await lab.siblings()
    await lab.store.release(SENIOR, senior, "drain")
    return lambda: lab.store.complete(JUNIOR, junior)


@situation("complete")
async def a_session_that_was_swept(lab: Laboratory) -> Request:
    claim = await lab.hold()
    await lab.orphan(claim)
    return lambda: lab.store.complete(SENIOR, claim)


@situation("cancel")
async def a_running_call(lab: Laboratory) -> Request:
    await lab.hold()
    return lambda: lab.store.cancel("call", "asked")


@situation("cancel")
async def a_waiting_call(lab: Laboratory) -> Request:
    await lab.queue()
    return lambda: lab.store.cancel("call", "asked")


@situation("cancel")
async def two_siblings(lab: Laboratory) -> Request:
    await lab.siblings()
    return lambda: lab.store.cancel("call", "asked")


# -- sweep ---------------------------------------------------------------------------------------


def _sweep(lab: Laboratory, *claims: Claim) -> Request:
    refs = [SessionRef(claim.call_id, claim.session_id) for claim in claims]
    return lambda: lab.store.sweep(0, refs)


@situation("sweep")
async def two_lapsed_leases_and_a_live_one(lab: Laboratory) -> Request:
    claims = [await lab.hold(SENIOR, call_id) for call_id in ("one", "two", "three")]
    for claim in claims[:2]:
        lab.lapse(claim)
    return _sweep(lab, *claims)


@situation("sweep")
async def a_lapsed_offer(lab: Laboratory) -> Request:
    offered = await lab.offer(await lab.queue(), SENIOR)
    lab.lapse(offered)
    return _sweep(lab, offered)


@situation("sweep")
async def a_session_to_be_parked(lab: Laboratory) -> Request:
    claim = await lab.hold()
    for owner in (JUNIOR, THIRD, SENIOR, JUNIOR, THIRD):
        claim = await lab.move(claim, owner)
    lab.lapse(claim)
    return _sweep(lab, claim)


@situation("sweep")
async def a_dead_instance(lab: Laboratory) -> Request:
    for call_id in ("one", "two"):
        await lab.hold(SENIOR, call_id)
    await lab.hold(SENIOR._replace(incarnation=2), "three")
    return lambda: lab.store.sweep_dead(SENIOR.instance_id, 2, "process died")


@situation("sweep")
async def an_index_that_names_nothing(lab: Laboratory) -> Request:
    nothing = Claim("other", names.session_id(1_800_000_000_000, 0, 2), 0)
    lab.lapse(nothing)
    return _sweep(lab, nothing)


# -- assign --------------------------------------------------------------------------------------


def _assign(lab: Laboratory, *pairs: tuple[Claim, Owner]) -> Request:
    grants = [Grant(SessionRef(claim.call_id, claim.session_id), owner) for claim, owner in pairs]
    return lambda: lab.store.assign(0, grants, "once")


@situation("assign")
async def a_new_session(lab: Laboratory) -> Request:
    return _assign(lab, (await lab.queue(), SENIOR))


@situation("assign")
async def a_session_to_its_last_owner(lab: Laboratory) -> Request:
    claim = await lab.hold()
    await lab.orphan(claim)
    return _assign(lab, (claim, SENIOR))


@situation("assign")
async def an_offer_that_lapsed_to_the_same_instance(lab: Laboratory) -> Request:
    offered = await lab.offer(await lab.queue(), SENIOR)
    await lab.orphan(offered)
    return _assign(lab, (offered, SENIOR))


@situation("assign")
async def two_sessions_to_two_instances(lab: Laboratory) -> Request:
    return _assign(lab, (await lab.queue("one"), SENIOR), (await lab.queue("two"), JUNIOR))


@situation("assign")
async def a_session_with_a_running_sibling(lab: Laboratory) -> Request:
    senior, _ = await lab.siblings()
    await lab.store.release(SENIOR, senior, "drain")
    return _assign(lab, (senior, THIRD))


# -- the rest ------------------------------------------------------------------------------------


@situation("tick")
async def a_call_whose_retention_is_over(lab: Laboratory) -> Request:
    await lab.hold(SENIOR, "live")
    await lab.store.complete(SENIOR, await lab.hold())
    lab.raw.zadd(lab.keys.partition(0)[4], {"call": 1})
    lab.raw.delete(lab.keys.call(0, "call"))
    return lab.store.tick


@situation("describe")
async def a_call(lab: Laboratory) -> Request:
    await lab.siblings()
    return lambda: lab.store.describe("call")


@situation("heartbeat")
async def a_later_one_that_drains(lab: Laboratory) -> Request:
    beat = await lab.store.heartbeat(report())
    return lambda: lab.store.heartbeat(report(incarnation=beat.incarnation, state="draining"))


@situation("heartbeat")
async def the_first(lab: Laboratory) -> Request:
    return lambda: lab.store.heartbeat(report())


@situation("heartbeat")
async def a_newer_process(lab: Laboratory) -> Request:
    await lab.store.heartbeat(report())
    return lambda: lab.store.heartbeat(report(token="second"))


@situation("leave")
async def an_instance(lab: Laboratory) -> Request:
    beat = await lab.store.heartbeat(report())
    return lambda: lab.store.leave("one", beat.incarnation, "drained")


@situation("roster")
async def all_instances(lab: Laboratory) -> Request:
    await lab.store.heartbeat(report())
    return lab.store.instances


@situation("claim_namespace")
async def an_empty_redis(lab: Laboratory) -> Request:
    lab.forget()
    return lab.store.check
