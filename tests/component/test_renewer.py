"""When leases are renewed, and in whose company: on a loop whose time is virtual."""

import asyncio
import random

from mediaflow.core.tenure import Rules
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.renewer import LARGEST_REQUEST, MOMENTS, Renewer
from mediaflow.store import LARGEST_LOT, RENEWED, Claim, Holding, Lot, Owner, StoreUnavailable
from mediaflow.testing.loop import VirtualLoop

TTL_S = 10.0
MOMENT_S = TTL_S / MOMENTS
OWNER = Owner("me", 1, "rank")


class LoopClock:
    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


class Scribe:
    """A store that notes what it is asked, and when."""

    generation = 1

    def __init__(self) -> None:
        self.requests: list[tuple[float, list[str]]] = []
        self.is_away = False

    def lot(self, leases):
        assert 0 < len(leases) <= LARGEST_LOT
        return Lot(leases, None)

    async def renew_many(self, lots):
        names = [lease.claim.session_id for lot in lots for lease in lot.items]
        self.requests.append((LoopClock().monotonic_s(), names))
        await asyncio.sleep(0.01)
        if self.is_away:
            raise StoreUnavailable("away")
        return [[RENEWED] * len(lot.items) for lot in lots]


class Holder:
    """Asks for a renewal whenever its moment has come, and never settles."""

    cohort = None
    place = 0.5

    def __init__(self, name: str) -> None:
        self.name = name
        self.moment: int | None = None
        self.heard: list[object] = []

    def ask(self, _round):
        return Holding(OWNER, Claim("call", self.name, 1))

    def hear(self, answer, _round):
        self.heard.append(answer)


def live(story) -> Scribe:
    """Have a renewer run while something happens, for some time beyond it."""
    store, meter = Scribe(), InstanceMeter()

    async def main():
        renewer = Renewer(store, Rules(TTL_S, 60.0, False), LoopClock(), meter)
        running = asyncio.create_task(renewer.run())
        await story(renewer, store)
        await asyncio.sleep(2 * TTL_S)
        running.cancel()
        await asyncio.wait([running])

    VirtualLoop(1).run(main())
    return store


def test_leases_that_are_due_in_one_moment_go_out_together_and_within_a_moment_of_when_they_are_due():
    rng, due_s = random.Random(3), {}

    async def story(renewer, _store):
        for number in range(500):
            holder = Holder(f"{number}")
            due_s[holder.name] = LoopClock().monotonic_s() + rng.uniform(0, TTL_S / 3)
            renewer.put(holder, due_s[holder.name])

    store = live(story)
    sent = {name: at_s for at_s, names in store.requests for name in names}
    assert sent.keys() == due_s.keys()
    assert all(0 <= sent[name] - due_s[name] <= MOMENT_S + 0.001 for name in due_s)
    assert len(store.requests) <= MOMENTS / 3 + 2


def test_leases_in_haste_go_out_at_once_and_together():
    async def story(renewer, _store):
        renewer.put(Holder("patient"), LoopClock().monotonic_s() + 3)
        await asyncio.sleep(1)
        for name in ("one", "other"):
            renewer.put_first(Holder(name))

    store = live(story)
    (first_s, first), (second_s, second) = store.requests
    assert first == ["one", "other"]
    assert second == ["patient"]
    assert second_s - first_s > 1.9


def test_a_lease_is_renewed_when_it_was_put_last_and_no_more_once_it_was_taken_out():
    moved, gone = Holder("moved"), Holder("gone")

    async def story(renewer, _store):
        now_s = LoopClock().monotonic_s()
        for holder in (moved, gone):
            renewer.put(holder, now_s + 1)
        renewer.put(moved, now_s + 4)
        renewer.take_out(gone)
        renewer.take_out(gone)

    store = live(story)
    assert [names for _, names in store.requests] == [["moved"]]
    assert len(moved.heard) == 1


def test_no_request_is_so_large_that_its_answer_could_not_come_in_time():
    async def story(renewer, _store):
        for number in range(2 * LARGEST_REQUEST + 1):
            renewer.put_first(Holder(f"{number}"))

    sizes = [len(names) for _, names in live(story).requests]
    assert sorted(sizes) == [1, LARGEST_REQUEST, LARGEST_REQUEST]


def test_a_store_that_is_away_is_told_to_everyone_and_keeps_nobody_else_waiting():
    first, second = Holder("first"), Holder("second")

    async def story(renewer, store):
        store.is_away = True
        renewer.put_first(first)
        await asyncio.sleep(1)
        store.is_away = False
        renewer.put_first(second)

    live(story)
    assert isinstance(first.heard[0], StoreUnavailable)
    assert second.heard == [RENEWED]
