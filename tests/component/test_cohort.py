"""Leases that are renewed together: each owner knows, and is told, what it would if it were alone."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from mediaflow.core import tenure as core
from mediaflow.core.tenure import Rules
from mediaflow.runtime.actor import Actor
from mediaflow.runtime.cohort import Cohort, muster
from mediaflow.runtime.leasehold import Leasehold
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.runtime.renewer import Renewer
from mediaflow.runtime.round import Round
from mediaflow.runtime.surroundings import Surroundings
from mediaflow.store import (
    LARGEST_LOT,
    RENEWED,
    Acceptance,
    Claim,
    Holding,
    Lot,
    Owner,
    Readoption,
    Renewal,
    StoreUnavailable,
    Written,
)
from mediaflow.testing.loop import VirtualLoop

TTL_S = 10.0
RULES = Rules(TTL_S, 60.0, True)
OWNER = Owner("me", 1, "rank")
SESSIONS = 5
FENCE = 100


# -- a cohort by itself ---------------------------------------------------------------------------------


class Desk:
    """A store that puts lots together, and remembers each."""

    generation = 1

    def __init__(self) -> None:
        self.lots: list[Lot] = []

    def lot(self, leases):
        self.lots.append(Lot(leases, None))
        return self.lots[-1]


class Holder:
    """Asks whenever it is asked itself, and settles if its lease was renewed."""

    def __init__(self, name: str, owner: Owner = OWNER, place: float = 0.5) -> None:
        self.holding = Holding(owner, Claim("call", name, 1))
        self.place = place
        self.moment: int | None = None
        self.cohort: Cohort | None = None
        self.heard: list[object] = []

    def ask(self, _round):
        return self.holding

    def hear(self, answer, _round):
        self.heard.append(answer)
        return self.holding if answer is RENEWED else None

    def leave(self):
        self.cohort = None


def at(sent_at_s: float, generation: int = 1) -> Round:
    return Round(sent_at_s, RULES, generation)


def answer(cohorts, round_, desk, answers=None, *, took_s: float = 0.01) -> list[list[str]]:
    """Ask and answer; returns who went out together."""
    lots = [cohort.ask(round_, desk) for cohort in cohorts]
    round_.heard_at_s += took_s
    for cohort, lot in zip(cohorts, lots, strict=True):
        cohort.hear([(answers or {}).get(item.claim.session_id, RENEWED) for item in lot.items], round_)
    return [[item.claim.session_id for item in lot.items] for lot in lots]


def settled(desk: Desk, holders, sent_at_s: float = 0.0):
    round_ = at(sent_at_s)
    cohorts = muster(holders, round_)
    answer(cohorts, round_, desk)
    return cohorts


def test_who_settled_is_renewed_without_being_asked_or_told_and_what_asks_for_them_is_put_together_once():
    desk, holders = Desk(), [Holder(f"{number}") for number in range(3)]
    (cohort,) = settled(desk, holders)
    assert all(holder.cohort is cohort and holder.heard == [RENEWED] for holder in holders)
    for turn in range(1, 4):
        assert muster([cohort], round_ := at(3.0 * turn)) == [cohort]
        assert answer([cohort], round_, desk) == [["0", "1", "2"]]
        assert len(round_.left_s) == 3
    assert [len(holder.heard) for holder in holders] == [1, 1, 1]
    assert len(desk.lots) == 1
    assert cohort.term.sent_at_s == 9.0


def test_an_answer_that_is_not_the_common_one_is_told_to_whom_it_concerns_and_to_nobody_else():
    desk, holders = Desk(), [Holder(f"{number}") for number in range(3)]
    (cohort,) = settled(desk, holders)
    lost = Renewal("lost")
    answer([cohort], at(3.0), desk, {"1": lost})
    assert [holder.heard[1:] for holder in holders] == [[], [lost], []]
    assert holders[1].cohort is None
    assert answer([cohort], at(6.0), desk) == [["0", "2"]]


def test_who_goes_its_own_way_while_an_answer_is_under_way_hears_it_and_before_is_not_asked_for():
    desk, holders = Desk(), [Holder(f"{number}") for number in range(3)]
    (cohort,) = settled(desk, holders)
    holders[0].leave()
    assert not cohort.part(holders[0])
    (lot,) = [cohort.ask(round_ := at(3.0), desk)]
    assert [item.claim.session_id for item in lot.items] == ["1", "2"]
    holders[2].leave()
    assert cohort.part(holders[2])
    cohort.hear([RENEWED, RENEWED], round_)
    assert [len(holder.heard) for holder in holders] == [1, 1, 2]


def test_an_answer_that_comes_too_late_or_from_another_server_is_told_to_each():
    for spoil in ({"took_s": TTL_S}, {"is_same_server": False}):
        desk, holders = Desk(), [Holder(f"{number}") for number in range(3)]
        (cohort,) = settled(desk, holders)
        round_ = at(3.0)
        round_.is_same_server = spoil.get("is_same_server", True)
        answer([cohort], round_, desk, took_s=spoil.get("took_s", 0.01))
        assert [len(holder.heard) for holder in holders] == [2, 2, 2]
        assert round_.left_s == []


def test_all_are_asked_one_by_one_when_the_server_has_changed_or_their_leases_may_be_over():
    for round_ in (at(3.0, generation=2), at(TTL_S)):
        desk, holders = Desk(), [Holder(f"{number}") for number in range(3)]
        (cohort,) = settled(desk, holders)
        (again,) = muster([cohort], round_)
        assert again is not cohort
        assert len(cohort) == 0
        assert all(holder.cohort is None for holder in holders)


def test_leases_of_two_owners_and_of_two_places_never_go_out_in_one_lot():
    older = Owner("me", 0, "rank")
    holders = [Holder("a"), Holder("b", older), Holder("c", place=0.75), Holder("d")]
    desk, round_ = Desk(), at(0.0)
    assert sorted(answer(muster(holders, round_), round_, desk)) == [["a", "d"], ["b"], ["c"]]


def test_no_lot_is_too_large_and_two_that_have_become_small_are_put_together():
    desk, holders = Desk(), [Holder(f"{number}") for number in range(LARGEST_LOT + 100)]
    cohorts = settled(desk, holders)
    assert sorted(map(len, cohorts)) == [100, LARGEST_LOT]
    assert len(muster(cohorts, at(3.0))) == 2
    for holder in holders[: LARGEST_LOT - 100]:
        holder.leave()
        cohorts[0].part(holder)
    (one,) = muster(cohorts, round_ := at(6.0))
    assert len(one) == 200
    answer([one], round_, desk)
    assert all(holder.cohort is one for holder in holders[LARGEST_LOT - 100 :])


# -- owners in company, and the same owners alone -------------------------------------------------------


class Loner(Leasehold):
    """One that never settles: it is asked, and told, for every renewal."""

    __slots__ = ()

    def _is_settled(self, _round):
        return False


class LoopClock:
    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        return int(1000 * self.monotonic_s())


class ScriptedStore:
    """Renews in a quarter of a second, but for what a test has it say."""

    partitions = 1

    def __init__(self) -> None:
        self.generation = 1
        self.away = False
        self.says: dict[str, str] = {}

    def lot(self, leases):
        return Lot(leases, None)

    async def renew_many(self, lots):
        await self.answer()
        return [[self.renew(claim, bool(more)) for _, claim, more in lot.items] for lot in lots]

    def renew(self, claim, new_fence):
        said = self.says.pop(claim.session_id, "renewed")
        if said == "refused":
            return ValueError("damaged")
        if said == "refenced" or (said == "renewed" and new_fence):
            return Renewal("refenced", claim.fence + 1)
        return RENEWED if said == "renewed" else Renewal(said)

    async def answer(self):
        await asyncio.sleep(0.25)
        if self.away:
            raise StoreUnavailable("away")

    async def readopt(self, _owner, held):
        await self.answer()
        return Readoption("readopted", held.claim.fence + 1)

    async def accept(self, _owner, claim):
        await self.answer()
        return Acceptance(status="accepted", fence=claim.fence)

    async def release(self, _owner, _claim, _reason):
        await self.answer()
        return Written("written")

    async def checkpoint(self, _owner, _claim, _number, _value, **_more):
        await self.answer()
        return Written("written")


class Household:
    """An instance's sessions on a store of their own."""

    def __init__(self, kind: type[Leasehold]) -> None:
        self.cut_off = False
        self.store, clock, self.meter = ScriptedStore(), LoopClock(), InstanceMeter()
        renewer = Renewer(self.store, RULES, clock, self.meter)
        around = Surroundings(self.store, OWNER, self.handle, RULES, clock, self.meter, renewer)
        accepted = Acceptance(status="accepted", fence=FENCE)
        self.actors = [
            Actor(around, Claim("call", f"{number}", FENCE), accepted, clock.monotonic_s())
            for number in range(SESSIONS)
        ]
        for actor in self.actors:
            actor._lease.__class__ = kind
        self.tasks = [
            asyncio.create_task(work()) for work in (renewer.run, *(one.run for one in self.actors))
        ]

    async def handle(self, session):
        try:
            await asyncio.Event().wait()
        finally:
            self.cut_off = self.cut_off or session.end_reason is None

    def suffer(self, what: str, whom: int) -> None:
        actor = self.actors[whom]
        match what:
            case "nothing":
                pass
            case "wake":
                actor._wake.ring()
            case "hint":
                actor.ask_now()
            case "refenced write":
                actor._take(core.Refenced(actor.fence + 1))
            case "drain":
                actor.drain()
            case "another server":
                self.store.generation += 1
            case "silence":
                self.store.away = True
            case "speech":
                self.store.away = False
            case _:
                self.store.says[f"{whom}"] = what

    def known(self):
        return [(actor._tenure, actor.state, actor._lease.claim) for actor in self.actors]

    def counted(self):
        meter = self.meter
        return (
            meter.renewals.values,
            meter.lateness.count,
            meter.lease_left.rows[()].counts,
            meter.ended.values,
        )

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


events = st.tuples(
    st.sampled_from(
        [
            *("nothing", "wake", "hint", "refenced write", "drain", "another server", "silence", "speech"),
            *("refenced", "lost", "yielded", "cancelled", "unknown", "refused"),
        ]
    ),
    st.integers(0, SESSIONS - 1),
    st.sampled_from([0.01, 0.1, 0.3, 1.0, 3.3, 12.0]),
)


@given(st.lists(events, max_size=25))
def test_in_company_an_owner_knows_and_counts_at_every_moment_what_it_would_alone(story):
    async def main() -> None:
        company, loners = Household(Leasehold), Household(Loner)
        try:
            for what, whom, pause_s in [("nothing", 0, 7.77), *story, ("speech", 0, 9.99)]:
                for household in (company, loners):
                    household.suffer(what, whom)
                await asyncio.sleep(pause_s)
                if loners.cut_off:
                    return  # who comes first from here on is a matter of their order
                assert company.known() == loners.known(), (what, whom)
            assert company.counted() == loners.counted()
            assert {actor._lease.cohort for actor in loners.actors} == {None}
            if not story:
                (cohort,) = {actor._lease.cohort for actor in company.actors}
                assert len(cohort) == SESSIONS
        finally:
            for household in (company, loners):
                await household.close()

    VirtualLoop(1).run(main())
