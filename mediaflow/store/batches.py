"""Scripts that take many sessions of one owner at a time: one call for each partition, all in one pipeline."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from mediaflow.store.link import Call
from mediaflow.store.part import Part
from mediaflow.store.records import Holding, Owner, StoreError, StoreUnavailable

R = TypeVar("R")

LARGEST_LOT = 250
"""Leases that one call of a script renews, at most."""

BATCH = {"accept": 25, "renew": LARGEST_LOT, "relinquish": 25}
"""Sessions in one call of a script at most: a bound on how long Redis serves nobody else. A renewal is cheap."""


class Lot(NamedTuple):
    """Sessions of one owner in one partition, and the call that asks for all of them.

    To put it together takes longer than to ask for it: who asks for the same ones again and again keeps it.
    """

    items: Sequence[Holding]
    call: Call


class Batches(Part):
    """Asks for many sessions at once."""

    async def _ask_batches(self, script: str, items: Sequence[Holding], timeout_s: float) -> list[Any]:
        """Run a batch script for all items; the answers come in their order, an error in the place of its item."""
        await self._ensure_claimed(timeout_s)
        units: defaultdict[tuple[Owner, int], list[int]] = defaultdict(list)
        for index, item in enumerate(items):
            units[self._unit(item)].append(index)
        chunks: list[list[int]] = []
        lots: list[Lot] = []
        for unit, indices in units.items():
            for start in range(0, len(indices), BATCH[script]):
                chunk = indices[start : start + BATCH[script]]
                chunks.append(chunk)
                lots.append(self._lot(script, unit, [items[index] for index in chunk]))
        answers: list[Any] = [None] * len(items)
        for chunk, found in zip(chunks, await self._ask_lots(script, lots, timeout_s), strict=True):
            for index, answer in zip(chunk, found, strict=True):
                answers[index] = answer
        return answers

    async def _ask_lots(self, script: str, lots: Sequence[Lot], timeout_s: float) -> list[list[Any]]:
        """Run a batch script for each lot; the answers to its items come in their order, errors in their places."""
        replies = await self._asker.run_each([lot.call for lot in lots], timeout_s=timeout_s)
        return [
            reply if not isinstance(reply, StoreError) else await self._apart(script, lot, reply, timeout_s)
            for lot, reply in zip(lots, replies, strict=True)
        ]

    async def _apart(self, script: str, lot: Lot, error: StoreError, timeout_s: float) -> list[Any]:
        """Return what becomes of the items of a lot that failed as a whole."""
        if isinstance(error, StoreUnavailable) or len(lot.items) == 1:
            return [error] * len(lot.items)
        # One damaged record must not cost all the others of its batch their leases.
        alone = [self._lot(script, self._unit(item), [item]) for item in lot.items]
        return [answer for (answer,) in await self._ask_lots(script, alone, timeout_s)]

    def _unit(self, item: Holding) -> tuple[Owner, int]:
        """Return what those have in common that one call may take: the owner, and the partition."""
        return item.owner, self._keys.partition_of(item.claim.call_id)

    def _lot(self, script: str, unit: tuple[Owner, int], items: Sequence[Holding]) -> Lot:
        owner, partition = unit
        keys = [self._keys.owned(partition, owner.instance_id)]
        args: list[str | int] = [owner.instance_id, owner.incarnation]
        if script == "renew":
            args.append(owner.rank)
        elif script == "relinquish":
            args.append(self._settings.max_attempts)
        call_prefix, session_prefix = self._keys.prefixes(partition)
        for _, (call_id, session_id, fence), more in items:
            keys += (call_prefix + call_id, session_prefix + session_id)
            if script == "relinquish":
                keys.append(self._keys.idempotency(partition, call_id))
            if script == "renew":
                args.append(-fence if more else fence)
            else:
                args += (fence, *more)
        return Lot(items, self._call(script, partition, keys, args))

    def _session_keys(self, partition: int, call_id: str, session_id: str) -> list[str]:
        return [
            self._keys.call(partition, call_id),
            self._keys.session(partition, session_id),
            self._keys.idempotency(partition, call_id),
        ]


def each(parse: Callable[[Any], R], replies: Sequence[Any]) -> list[R | StoreError]:
    """Return what the replies to a batch mean; errors stay as they are."""
    return [reply if isinstance(reply, StoreError) else parse(reply) for reply in replies]
