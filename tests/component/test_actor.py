"""The actor of a session, against a store that says what a test wants it to say."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from harness.waiting import eventually

from mediaflow.core.tenure import Rules
from mediaflow.runtime.actor import Actor
from mediaflow.runtime.clock import SystemClock
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.renewer import Renewer
from mediaflow.runtime.session import LeaseLost
from mediaflow.runtime.surroundings import Surroundings
from mediaflow.store import NEW_FENCE, RENEWED, Acceptance, Claim, Lot, Owner, Renewal, Written

TTL_S = 3.0
CLOCK = SystemClock()


def stops_at_s(actor: Actor) -> float:
    """Return until when the actor believes in its lease."""
    return CLOCK.monotonic_s() + actor.lease_remaining_s()


class TurningStore:
    """Confirms the first renewal as another server than before: one that may have lost a newer owner."""

    partitions = 1

    def __init__(self) -> None:
        self.generation = 1
        self.asked: list[tuple[bool, float]] = []
        self.actor: Actor | None = None

    def lot(self, leases):
        return Lot(leases, None)

    async def renew_many(self, lots):
        assert self.actor is not None
        ((((_, claim, more),), _),) = lots
        new_fence = more == NEW_FENCE
        self.asked.append((new_fence, stops_at_s(self.actor)))
        self.generation = 2
        return [[Renewal("refenced", claim.fence + 10) if new_fence else RENEWED]]


@asynccontextmanager
async def acting(store, handler, *, accepted_s_ago: float = 0.0):
    """Run the actor of a session that was accepted."""
    meter, rules = InstanceMeter(), Rules(TTL_S, 60.0, False)
    renewer = Renewer(store, rules, CLOCK, meter)
    around = Surroundings(store, Owner("me", 1, "rank"), handler, rules, CLOCK, meter, renewer)
    accepted = Acceptance(status="accepted", fence=7)
    actor = store.actor = Actor(
        around, Claim("call", "session", 7), accepted, CLOCK.monotonic_s() - accepted_s_ago
    )
    stopped_at_s = stops_at_s(actor)
    running = [asyncio.create_task(actor.run()), asyncio.create_task(renewer.run())]
    try:
        yield actor, stopped_at_s
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


async def test_a_renewal_that_a_new_server_confirms_is_believed_only_under_a_new_fence():
    async def handler(_session) -> None:
        await asyncio.Event().wait()

    store = TurningStore()
    async with acting(store, handler, accepted_s_ago=0.9) as (actor, stopped_at_s):
        await eventually(lambda: len(store.asked) >= 2, 5)
        assert [new_fence for new_fence, _ in store.asked[:2]] == [False, True]
        assert store.asked[1][1] < stopped_at_s + 0.1, "the lease was believed in before the new fence came"
        await eventually(lambda: actor.fence == 17, 5)


class YieldedStore:
    """Refuses a checkpoint, since the session yielded; only a renewal says that."""

    partitions = 1
    generation = 1
    actor: Actor | None = None

    async def checkpoint(self, *_args, **_options):
        return Written("lost")

    def lot(self, leases):
        return Lot(leases, None)

    async def renew_many(self, lots):
        return [[Renewal("yielded") for _ in lot.items] for lot in lots]


async def test_a_handler_that_hears_from_its_checkpoint_that_it_lost_the_session_can_tell_why():
    told: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    async def handler(session) -> None:
        try:
            await session.checkpoint({})
        finally:
            told.set_result(session.end_reason)

    async with acting(YieldedStore(), handler), asyncio.timeout(5):
        assert await told == "yielded"


class PausingClock:
    """A clock of a process that stands still when a test says so."""

    def __init__(self) -> None:
        self.paused_s = 0.0

    def monotonic_s(self) -> float:
        return CLOCK.monotonic_s() + self.paused_s

    def wall_ms(self) -> int:
        return CLOCK.wall_ms()

    def pause(self) -> None:
        self.paused_s += 2 * TTL_S


class TakenOverStore:
    """Says that the session is still the caller's until a pause, and another's since."""

    partitions = 1
    generation = 1

    def __init__(self, clock: PausingClock, *, pauses_in_accept: bool) -> None:
        self.clock = clock
        self.pauses_in_accept = pauses_in_accept

    def lot(self, leases):
        return Lot(leases, None)

    async def renew_many(self, lots):
        status = "lost" if self.clock.paused_s else "refenced"
        return [[Renewal(status, claim.fence + 1) for _, claim, _ in lot.items] for lot in lots]

    async def accept(self, _owner, claim):
        if self.pauses_in_accept:
            self.clock.pause()
        return Acceptance(status="accepted", fence=claim.fence)


async def starts_and_end(clock: PausingClock, *, at_first: bool) -> tuple[int, str]:
    """Run a session whose process stands still before its first, or second, start; return how often it started."""
    starts = []

    async def handler(session) -> None:
        starts.append(session.fence)
        if len(starts) == 1:
            raise LeaseLost
        await asyncio.Event().wait()

    store = TakenOverStore(clock, pauses_in_accept=not at_first)
    meter, rules = InstanceMeter(), Rules(TTL_S, 60.0, False)
    renewer = Renewer(store, rules, clock, meter)
    around = Surroundings(store, Owner("me", 1, "rank"), handler, rules, clock, meter, renewer)
    accepted = Acceptance(status="accepted", fence=7)
    actor = Actor(around, Claim("call", "session", 7), accepted, clock.monotonic_s())
    renewing, running = asyncio.create_task(renewer.run()), asyncio.create_task(actor.run())
    if at_first:
        asyncio.get_running_loop().call_soon(
            clock.pause
        )  # after the start, before the first step of the coroutine
    try:
        async with asyncio.timeout(5):
            end = await running
    finally:
        for task in (renewing, running):
            task.cancel()
        await asyncio.wait([renewing, running])
    return len(starts), end


@pytest.mark.parametrize(
    ("at_first", "starts"), [(True, 0), (False, 1)], ids=["at the start", "asking again"]
)
async def test_a_process_that_stood_still_starts_nothing_that_another_may_have_taken_over(at_first, starts):
    # Seed 5374: the answer to the acceptance before a second start waited while its process was paused for 6 s.
    assert await starts_and_end(PausingClock(), at_first=at_first) == (starts, "lost")
