"""The store as the watchdog uses it: tick, sweep, assign."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from mediaflow.settings import Settings
from mediaflow.store.link import Call, Link
from mediaflow.store.meter import LOSSES, SweepMeter
from mediaflow.store.part import Part, text
from mediaflow.store.records import AssignStatus, Grant, PartitionView, SessionRef, Waiting

SWEEP_BATCH = 25
"""Sessions in one sweep at most: a bound on how long Redis serves nobody else."""

PART = 400
"""Sessions of a dead instance after which the next ones wait until these are assigned."""


class Sweeping(Part):
    """Scripts on the indexes of partitions."""

    def __init__(self, link: Link, settings: Settings) -> None:
        """See :class:`Part`."""
        super().__init__(link, settings)
        self.sweeps = SweepMeter()

    async def tick(
        self, *, limit: int = 200, partitions: Sequence[int] | None = None, timeout_s: float = 2.0
    ) -> list[PartitionView]:
        """Advance lease time in every partition, or in those that are named, and look at its indexes."""
        await self._ensure_claimed(timeout_s)
        numbers = range(self.partitions) if partitions is None else partitions
        replies = await self._asker.run_many(
            [self._call("tick", number, [], [limit]) for number in numbers], timeout_s=timeout_s
        )
        return [_view(number, reply) for number, reply in zip(numbers, replies, strict=True)]

    async def sweep(self, partition: int, refs: Sequence[SessionRef], *, timeout_s: float = 2.0) -> int:
        """Make pending what has an expired lease; returns how many were."""
        await self._ensure_claimed(timeout_s)
        return await self._sweep_all(
            self._sweep_calls(partition, refs, "", 0, "lease expired"), "lease expired", timeout_s
        )

    async def sweep_dead(
        self,
        instance_id: str,
        before_incarnation: int,
        reason: str,
        *,
        starting_at: int = 0,
        on_pending: Callable[[Sequence[int]], Awaitable[None]] | None = None,
        timeout_s: float = 5.0,
    ) -> int:
        """Make pending all that incarnations of an instance below ``before_incarnation`` own; part by part."""
        await self._ensure_claimed(timeout_s)
        order = [*range(starting_at, self.partitions), *range(starting_at)]
        sizes = await self._asker.commands(
            [("SCARD", self._keys.owned(number, instance_id)) for number in order], timeout_s=timeout_s
        )
        total = 0
        for part in _parts(zip(order, sizes, strict=True)):
            # Read only now: of several watchdogs that found the same death, each finds done what another has done.
            owned = await self._asker.commands(
                [("SMEMBERS", self._keys.owned(number, instance_id)) for number in part], timeout_s=timeout_s
            )
            calls = [
                call
                for number, members in zip(part, owned, strict=True)
                for call in self._sweep_calls(
                    number, sorted(map(_ref, members)), instance_id, before_incarnation, reason
                )
            ]
            pending = await self._sweep_all(calls, reason, timeout_s)
            total += pending
            if pending and on_pending is not None:
                await on_pending(part)
        return total

    async def assign(
        self, partition: int, grants: Sequence[Grant], operation: str, *, timeout_s: float = 2.0
    ) -> list[AssignStatus]:
        """Give pending sessions to instances, which find the assignment in their inbox."""
        keys: list[str] = []
        args: list[str | int] = [operation, int(self._settings.accept_ttl * 1000)]
        for (call_id, session_id), owner in grants:
            keys += [
                self._keys.call(partition, call_id),
                self._keys.session(partition, session_id),
                self._keys.owned(partition, owner.instance_id),
            ]
            args += [call_id, session_id, *owner]
        reply = await self._ask("assign", partition, keys, args, timeout_s=timeout_s)
        statuses: list[Any] = [text(status) for status in reply]
        return statuses

    async def _sweep_all(self, calls: Sequence[Call], reason: str, timeout_s: float) -> int:
        replies = await self._asker.run_many(calls, timeout_s=timeout_s)
        found = Counter(text(status) for reply in replies for status in reply)
        self.sweeps.orphaned.add(LOSSES.get(reason, "other"), by=found["swept"])
        self.sweeps.orphaned.add("not_accepted", by=found["lapsed"])
        self.sweeps.parked.add(by=found["parked"])
        return found["swept"] + found["lapsed"]

    def _sweep_calls(
        self,
        partition: int,
        refs: Sequence[SessionRef],
        instance_id: str,
        before_incarnation: int,
        reason: str,
    ) -> list[Call]:
        return [
            self._sweep_call(
                partition, refs[start : start + SWEEP_BATCH], instance_id, before_incarnation, reason
            )
            for start in range(0, len(refs), SWEEP_BATCH)
        ]

    def _sweep_call(
        self,
        partition: int,
        refs: Sequence[SessionRef],
        instance_id: str,
        before_incarnation: int,
        reason: str,
    ) -> Call:
        keys = [self._keys.owned(partition, instance_id)]
        args: list[str | int] = [self._settings.max_takeovers, instance_id, before_incarnation, reason]
        for call_id, session_id in refs:
            keys += [
                self._keys.call(partition, call_id),
                self._keys.session(partition, session_id),
                self._keys.idempotency(partition, call_id),
            ]
            args += [call_id, session_id]
        return self._call("sweep", partition, keys, args)


def _parts(sizes: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """Divide partitions, given with their numbers of sessions, into parts of no more than it takes to fill one."""
    part: list[int] = []
    sessions = 0
    for partition, size in sizes:
        if size:
            part.append(partition)
            sessions += size
        if sessions >= PART:
            yield part
            part, sessions = [], 0
    if part:
        yield part


def _ref(member: Any) -> SessionRef:
    call_id, _, session_id = text(member).rpartition("/")
    return SessionRef(call_id, session_id)


def _view(partition: int, reply: Any) -> PartitionView:
    lease_ms, pending, expired, first_expiry, waiting, first_backoff, leased = reply
    now_ms = int(lease_ms)

    def until(score: Any) -> int | None:
        return max(0, int(float(score)) - now_ms) if score else None

    return PartitionView(
        partition=partition,
        expired=tuple(_ref(member) for member in expired),
        next_expiry_in_ms=until(first_expiry),
        waiting=tuple(
            Waiting(_ref(member), max(0, now_ms - int(float(score))))
            for member, score in zip(waiting[::2], waiting[1::2], strict=True)
        ),
        next_waiting_in_ms=until(first_backoff),
        pending=int(pending),
        leased=int(leased),
    )
