"""Scripts that take many sessions of one owner at a time: one call for each partition, all in one pipeline."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from mediaflow.store.link import Call
from mediaflow.store.part import Part
from mediaflow.store.records import Holding, Owner, StoreError, StoreUnavailable

BATCH = {"accept": 25, "renew": 250, "relinquish": 25}
"""Sessions in one call of a script at most: a bound on how long Redis serves nobody else. A renewal is cheap."""


class Batches(Part):
    """Asks for many sessions at once."""

    async def _ask_batches(self, script: str, items: Sequence[Holding], timeout_s: float) -> list[Any]:
        """Run a batch script for all items; the answers come in their order, an error in the place of its item."""
        await self._ensure_claimed(timeout_s)

        units: defaultdict[tuple[Owner, int], list[int]] = defaultdict(list)
        for index, (owner, claim, _) in enumerate(items):
            units[owner, self._keys.partition_of(claim.call_id)].append(index)
        chunks: list[list[int]] = []
        calls: list[Call] = []
        for (owner, partition), indices in units.items():
            for start in range(0, len(indices), BATCH[script]):
                chunk = indices[start : start + BATCH[script]]
                chunks.append(chunk)
                calls.append(self._batch_call(script, owner, partition, [items[i] for i in chunk]))
        answers: list[Any] = [None] * len(items)
        replies = await self._asker.run_each(calls, timeout_s=timeout_s)
        for chunk, reply in zip(chunks, replies, strict=True):
            for index, answer in zip(
                chunk, await self._each(script, items, chunk, reply, timeout_s), strict=True
            ):
                answers[index] = answer
        return answers

    async def _each(
        self, script: str, items: Sequence[Holding], chunk: Sequence[int], reply: Any, timeout_s: float
    ) -> list[Any]:
        """Return what a call answered to each of its items."""
        if not isinstance(reply, StoreError):
            return reply
        if isinstance(reply, StoreUnavailable) or len(items) == 1:
            return [reply] * len(chunk)
        # One damaged record must not cost all the others of its batch their leases.
        return [answer for i in chunk for answer in await self._ask_batches(script, [items[i]], timeout_s)]

    def _batch_call(self, script: str, owner: Owner, partition: int, items: Sequence[Holding]) -> Call:
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
        return self._call(script, partition, keys, args)

    def _session_keys(self, partition: int, call_id: str, session_id: str) -> list[str]:
        return [
            self._keys.call(partition, call_id),
            self._keys.session(partition, session_id),
            self._keys.idempotency(partition, call_id),
        ]
