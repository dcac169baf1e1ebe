"""Renewing leases: by one look where there is nothing to find, and by the whole script where there is.

What Redis says of a session that is held (``lua/_records.lua``) is an index: every script that changes an ownership
record takes it away first. Should a record vanish otherwise (deleted by hand, evicted), the index would hide it; so
each twentieth renewal looks at the records themselves, and so does the first after Redis was another or reached anew.
"""

import asyncio
from collections.abc import Sequence
from itertools import compress
from typing import Any, cast

from mediaflow.settings import Settings
from mediaflow.store.batches import LARGEST_LOT, Batches, Lot, each
from mediaflow.store.link import KeptCall, Link
from mediaflow.store.part import text
from mediaflow.store.records import (
    NEW_FENCE,
    RENEWED,
    Claim,
    Holding,
    Owner,
    Renewal,
    StoreError,
    StoreUnavailable,
)

EXAMINED_EACH = 20
"""Of so many renewals, one looks at the records themselves."""

_HELD = "renew_held"
_ALL = [1]


class Renewals(Batches):
    """Scripts that renew."""

    def __init__(self, link: Link, settings: Settings) -> None:
        """See :class:`Part`."""
        super().__init__(link, settings)
        # Of each partition, for which server and which twenty turns its records were examined, and in which turn.
        self._examined: dict[int, tuple[tuple[int, int], int]] = {}

    async def renew(
        self, owner: Owner, claim: Claim, *, new_fence: bool = False, timeout_s: float = 2.0
    ) -> Renewal:
        """Extend the lease."""
        holding = Holding(owner, claim, NEW_FENCE if new_fence else ())
        (answer,) = await self._examine([holding], timeout_s)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def lot(self, leases: Sequence[Holding]) -> Lot:
        """Put together leases that are to be renewed by one script."""
        units = set(map(self._unit, leases))
        if len(units) != 1 or len(leases) > LARGEST_LOT:
            raise ValueError(
                f"{len(leases)} leases of {len(units)} owners and partitions: a lot has 1 to {LARGEST_LOT} of one"
            )
        owner, partition = units.pop()
        if any(lease.more for lease in leases):
            return self._lot("renew", (owner, partition), leases)
        args: list[str | int] = [owner.instance_id, owner.incarnation]
        for _, (call_id, session_id, fence), _ in leases:
            args += (f"{call_id}/{session_id}", fence)
        keys = [self._keys.owned(partition, owner.instance_id)]
        return Lot(leases, KeptCall(*self._call(_HELD, partition, keys, args)))

    async def renew_many(
        self, lots: Sequence[Lot], *, timeout_s: float = 2.0
    ) -> Sequence[Sequence[Renewal | Exception]]:
        """Extend many leases in one request; those that have to be examined, in a second one."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + timeout_s
        found: list[list[Renewal | Exception | None]] = []
        left: list[tuple[list[Renewal | Exception | None], int, Holding]] = []
        for lot, reply in zip(lots, await self._look(lots, timeout_s), strict=True):
            answers = _told(reply, len(lot.items))
            found.append(answers)
            if reply != _ALL:
                left += [(answers, at, lot.items[at]) for at, answer in enumerate(answers) if answer is None]
        if left:
            examined = await self._examine([holding for *_, holding in left], max(0.0, until_s - clock()))
            for (answers, at, _), answer in zip(left, examined, strict=True):
                answers[at] = answer
        return cast("list[list[Renewal | Exception]]", found)

    async def _look(self, lots: Sequence[Lot], timeout_s: float) -> Sequence[Any]:
        """Renew by one look what can be; returns Redis's replies, and None for lots that are all to be examined."""
        await self._ensure_claimed(timeout_s)
        turn = int(asyncio.get_running_loop().time() / self._settings.renew_interval_s)
        looked_at = [lot.call.script.name == _HELD and not self._has_to_examine(lot, turn) for lot in lots]
        calls = [lot.call for lot in compress(lots, looked_at)]
        replies = iter(await self._asker.run_each(calls, timeout_s=timeout_s) if calls else ())
        return [next(replies) if looked else None for looked in looked_at]

    def _has_to_examine(self, lot: Lot, turn: int) -> bool:
        """Tell whether this is the turn in which all lots of its partition are examined.

        It is the first of each so many that has a renewal: a little delay makes a lot miss a turn, or have two in one.
        """
        partition = self._keys.partition_of(lot.items[0].claim.call_id)
        occasion = self.generation, (turn + partition) // EXAMINED_EACH
        examined_for, examined_in = self._examined.get(partition, (None, turn))
        if occasion != examined_for:
            self._examined[partition] = occasion, (examined_in := turn)
        return turn == examined_in

    async def _examine(self, leases: Sequence[Holding], timeout_s: float) -> Sequence[Renewal | StoreError]:
        """Renew by a look at the records."""
        return each(_renewal, await self._ask_batches("renew", leases, timeout_s))


def _told(reply: Any, number: int) -> list[Renewal | Exception | None]:
    """Return what a reply to a look at so many leases says of them; None of those that have to be examined."""
    if reply == _ALL:
        return [RENEWED] * number
    if isinstance(reply, StoreUnavailable):
        return [reply] * number
    if reply is None or isinstance(
        reply, StoreError
    ):  # one that is damaged must not cost the others their leases
        return [None] * number
    return [RENEWED if extended else None for extended in reply]


def _renewal(reply: Any) -> Renewal:
    if reply == b"renewed":
        return RENEWED
    status: Any = text(reply[0])
    if status == "refenced":
        return Renewal("refenced", fence=int(reply[1]))
    if status == "yielded":
        return Renewal("yielded", winner=text(reply[1]))
    if status == "lost":
        return Renewal("lost", overlap_ms=int(reply[1]) if reply[1] else None)
    return Renewal(status)
