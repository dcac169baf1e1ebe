"""Leases that are renewed together, at the cost of one.

Nearly all that is ever heard of a lease is that it was renewed. Leases of one place in the interval that went out with
one request have the same deadlines from then on. So they stay together, what follows from their common answer is kept
once, and what asks for them is put together once. A lease to which anything else happens goes its own way, and comes
back with a renewal of its own.

Invariants: to members that are *settled* nothing has happened but the renewals of their cohort, and what they know of
their leases is what :attr:`Cohort.term` says. An answer that is under way is for all who asked, whatever came after.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from mediaflow.core import lease
from mediaflow.runtime.round import Round
from mediaflow.store import LARGEST_LOT, RENEWED, Holding, Lot, Owner, Renewal, Store


class Term(NamedTuple):
    """What the last renewal of a cohort meant for all whose lease it renewed.

    Attributes:
        sent_at_s: When the request was sent that Redis confirmed.
        until: The deadlines that follow.
        generation: Of the server that confirmed it.
    """

    sent_at_s: float
    until: lease.Deadlines
    generation: int


class Leaseholder(Protocol):
    """Who holds a lease.

    Attributes:
        moment: For the :class:`~mediaflow.runtime.renewer.Renewer`.
        cohort: Where it is settled; None while it goes its own way. Set by the cohort.
        place: Within [0, 1): where in the interval its lease is to be renewed; the same only within a partition.
    """

    moment: int | None
    cohort: "Cohort | None"

    @property
    def place(self) -> float:
        """See above."""
        ...

    def ask(self, round_: Round) -> Holding | None:
        """Return what to ask for in this request; None if there is nothing to be renewed now."""
        ...

    def hear(self, answer: Renewal | Exception, round_: Round) -> Holding | None:
        """Take in the answer to what was asked last.

        Returns what is to be asked for next, if that is the renewal that follows from this one and nothing else; it
        settles in the cohort then. None if it goes its own way.
        """
        ...

    def leave(self) -> None:
        """Take in what the cohort was told so far, and belong to it no more."""
        ...


class Cohort:
    """Leases that one call of a script renews: of one place, and of one owner.

    Attributes:
        moment, place: As of a :class:`Leaseholder`.
        owner: Of all its leases.
        term: What is known of the leases of those who are settled; None before the first renewal.
    """

    def __init__(self, place: float, owner: Owner) -> None:
        """Begin with nobody."""
        self.moment: int | None = None
        self.term: Term | None = None
        self.place = place
        self.owner = owner
        self._members: dict[Leaseholder, Holding] = {}
        self._apart: set[Leaseholder] = set()  # their answer is under way, and is for themselves
        self._lot: Lot | None = None
        self._is_asked = False

    def __len__(self) -> int:
        return len(self._members)

    # -- who belongs to it ------------------------------------------------------------------------

    def admit(self, holder: Leaseholder, asked: Holding) -> None:
        """Have one who asks by itself go out with the next request, and settle here if nothing is in the way."""
        self._members[holder] = asked
        self._apart.add(holder)
        self._lot = None

    def part(self, holder: Leaseholder) -> bool:
        """Have one go its own way; return whether an answer to it is under way, which it will hear by itself."""
        if self._is_asked:
            self._apart.add(holder)
        else:
            self._remove(holder)
        return self._is_asked

    def dissolve(self) -> Sequence[Leaseholder]:
        """Have all go their own ways, and return them."""
        members = list(self._members)
        for holder in members:
            holder.leave()
            self._remove(holder)
        return members

    def _remove(self, holder: Leaseholder) -> None:
        del self._members[holder]
        self._lot = None

    # -- renewals ---------------------------------------------------------------------------------

    def may_ask(self, round_: Round) -> bool:
        """Tell whether all who are settled may be renewed in this request, and there is nothing else to be done."""
        term = self.term
        if term is None or not self._members:
            return False
        return term.generation == round_.generation and round_.sent_at_s < term.until.stop_at_s

    def ask(self, round_: Round, store: Store) -> Lot:
        """Return what to ask for in this request."""
        settled = len(self._members) - len(self._apart)
        if self.term is not None and settled:
            round_.send(self.term.until.renew_at_s, leases=settled)
            round_.bound(self.term.until.stop_at_s)
        self._is_asked = True
        if self._lot is None:
            self._lot = store.lot(list(self._members.values()))
        return self._lot

    def hear(self, answers: Sequence[Renewal | Exception], round_: Round) -> None:
        """Take in the answers to what was asked last, in the order of its leases."""
        until = round_.until(self.place)
        in_time = round_.is_same_server and round_.heard_at_s < until.stop_at_s
        own = self._own_answers(answers, in_common=in_time)
        for holder in own:
            if holder not in self._apart:
                holder.leave()
        if self.term is not None:
            round_.renewed(self.term.until.stop_at_s, leases=len(self._members) - len(own))
        self.term = Term(round_.sent_at_s, until, round_.generation)
        self._apart.clear()
        self._is_asked = False
        for holder, answer in own.items():
            self._settle(holder, holder.hear(answer, round_))

    def _own_answers(
        self, answers: Sequence[Renewal | Exception], *, in_common: bool
    ) -> Mapping[Leaseholder, Renewal | Exception]:
        """Return the answers that have to be heard by those whom they are for; the others are ``in_common``, if any."""
        if in_common and not self._apart and answers == [RENEWED] * len(answers):
            return {}
        return {
            holder: answer
            for holder, answer in zip(self._members, answers, strict=True)
            if not in_common or holder in self._apart or answer is not RENEWED
        }

    def _settle(self, holder: Leaseholder, next_: Holding | None) -> None:
        if next_ is None:
            self._remove(holder)
            return
        holder.cohort = self
        if next_ is not self._members[holder]:
            self._members[holder] = next_
            self._lot = None


def muster(due: Iterable[Cohort | Leaseholder], round_: Round) -> Sequence[Cohort]:
    """Return the cohorts that go out with a request; all who are due and have something to ask are in one of them."""
    company = _Company(round_)
    alone: list[Leaseholder] = []
    cohorts: list[Cohort] = []
    for one in due:
        if not isinstance(one, Cohort):
            alone.append(one)
        elif one.may_ask(round_):
            cohorts.append(one)
        else:
            alone += one.dissolve()
    for cohort in sorted(cohorts, key=len, reverse=True):
        company.take(cohort)
    company.admit(alone)
    return company.cohorts


class _Company:
    """Who goes out with a request."""

    def __init__(self, round_: Round) -> None:
        self.cohorts: list[Cohort] = []
        self._round = round_
        self._with_room: dict[tuple[float, Owner], Cohort] = {}

    def take(self, cohort: Cohort) -> None:
        """Take a cohort along, or its members one by one where there is room for them in another: few are quicker."""
        larger = self._with_room.get((cohort.place, cohort.owner))
        if larger is not None and len(larger) + len(cohort) <= LARGEST_LOT:
            self.admit(cohort.dissolve())
        else:
            self._keep(cohort)

    def admit(self, holders: Iterable[Leaseholder]) -> None:
        """Take those along who have something to ask."""
        for holder in holders:
            asked = holder.ask(self._round)
            if asked is None:
                continue
            cohort = self._with_room.get((holder.place, asked.owner))
            if cohort is None or len(cohort) >= LARGEST_LOT:
                cohort = self._keep(Cohort(holder.place, asked.owner))
            cohort.admit(holder, asked)

    def _keep(self, cohort: Cohort) -> Cohort:
        self._with_room[cohort.place, cohort.owner] = cohort
        self.cohorts.append(cohort)
        return cohort
