"""A store with hands on what lies behind it: to let leases lapse, forget, and roll back without waiting."""

import hashlib
import itertools
import time
from typing import Any, NamedTuple

from mediaflow.core import names
from mediaflow.settings import Settings
from mediaflow.store import (
    Claim,
    Creation,
    Grant,
    Held,
    Holding,
    InstanceReport,
    NewSession,
    Owner,
    PartitionView,
    SessionRef,
    Store,
)
from mediaflow.store.keys import Keyspace

SENIOR = Owner("senior", 1, names.rank(1_000, "senior"))
JUNIOR = Owner("junior", 1, names.rank(2_000, "junior"))
THIRD = Owner("third", 1, names.rank(3_000, "third"))
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""Not longer than Redis keeps in a small hash: only of those is the dump the same for the same content."""

_numbers = itertools.count(1)


def digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def report(instance_id: str = "one", **changes: Any) -> InstanceReport:
    """Return what an instance would say of itself with a heartbeat."""
    said: dict[str, Any] = {
        "instance_id": instance_id,
        "token": "first",
        "incarnation": 0,
        "rank": names.rank(1_000, instance_id),
        "address": "127.0.0.1:8081",
        "slots": 10,
        "used": 3,
        "state": "ready",
        "version": "0",
        "started_at_ms": 1_000,
    }
    return InstanceReport(**{**said, **changes})


class Record(NamedTuple):
    """The ownership record of a session, as it lies in Redis."""

    state: str
    owner: str
    incarnation: int
    rank: str
    fence: int
    accepted: bool
    ended_ms: int


def parse_record(text: bytes) -> Record:
    state, owner, incarnation, rank, fence, accepted, ended_ms = text.decode().split("|")
    return Record(state, owner, int(incarnation), rank, int(fence), accepted == "1", int(ended_ms))


class Laboratory:
    """A store, its settings, and a client of its Redis that goes behind its back."""

    def __init__(self, store: Store, settings: Settings, raw: Any) -> None:
        self.store = store
        self.settings = settings
        self.raw = raw
        self.keys = Keyspace(settings.namespace, settings.partitions)

    # -- asking the store --------------------------------------------------------------------

    async def create(
        self,
        call_id: str = "call",
        owner: Owner | None = None,
        *,
        key: str | None = None,
        body: str = "{}",
        may_queue: bool = True,
        timeout_s: float = 2.0,
    ) -> Creation:
        number = next(_numbers)
        return await self.store.create(
            NewSession(
                call_id=call_id,
                session_id=names.session_id(1_700_000_000_000 + number, 0, number),
                idempotency_key=key or f"key-{number}",
                body_digest=digest(body),
                metadata=body.encode(),
                owner=owner,
                may_queue=may_queue,
                trace=TRACE,
            ),
            timeout_s=timeout_s,
        )

    async def hold(self, owner: Owner = SENIOR, call_id: str = "call", **options: Any) -> Claim:
        """Make a session that ``owner`` owns."""
        made = await self.create(call_id, owner, **options)
        assert made.status == "created"
        return Claim(call_id, made.session_id, made.fence)

    async def queue(self, call_id: str = "call", **options: Any) -> Claim:
        """Make a session that waits for an owner."""
        made = await self.create(call_id, **options)
        assert (made.status, made.state) == ("created", "pending")
        return Claim(call_id, made.session_id, made.fence)

    async def assign(self, claim: Claim, owner: Owner, operation: str | None = None) -> str:
        statuses = await self.store.assign(
            self.keys.partition_of(claim.call_id),
            [Grant(SessionRef(claim.call_id, claim.session_id), owner)],
            operation or f"operation-{next(_numbers)}",
        )
        return statuses[0]

    async def offer(self, claim: Claim, owner: Owner) -> Claim:
        """Assign a pending session; returns what its new owner would find in its inbox."""
        assert await self.assign(claim, owner) == "assigned"
        return self.current(claim)

    async def give(self, claim: Claim, owner: Owner) -> Claim:
        """Assign a pending session, and accept it."""
        offered = await self.offer(claim, owner)
        assert (await self.store.accept(owner, offered)).status == "accepted"
        return offered

    async def look(self, owner: Owner, *claims: Claim) -> list[bool]:
        """Have leases renewed by a look alone; returns which were."""
        lot = self.store.lot([Holding(owner, claim) for claim in claims])
        reply = await self.store._asker.run(lot.call, timeout_s=2.0)
        return [bool(extended) for extended in reply] * (len(claims) // len(reply))

    async def sweep(self, claim: Claim) -> int:
        return await self.store.sweep(
            self.keys.partition_of(claim.call_id), [SessionRef(claim.call_id, claim.session_id)]
        )

    async def orphan(self, claim: Claim) -> None:
        """Let a lease lapse and have it swept."""
        self.lapse(claim)
        assert await self.sweep(claim) == 1

    async def move(self, claim: Claim, owner: Owner) -> Claim:
        """Have another take a session over, whose owner fell silent."""
        await self.orphan(claim)
        return await self.give(claim, owner)

    async def siblings(self, first: Owner = SENIOR, second: Owner = JUNIOR) -> tuple[Claim, Claim]:
        """Make two running sessions of one call: Redis lost the first, whose owner puts it back."""
        one = await self.hold(first)
        held = self.held(one)
        self.forget()
        two = await self.hold(second)
        back = await self.store.readopt(first, held)
        assert back.status == "readopted"
        return one._replace(fence=back.fence), two

    async def view(self, call_id: str = "call") -> PartitionView:
        return (await self.store.tick())[self.keys.partition_of(call_id)]

    def held(self, claim: Claim, **changes: Any) -> Held:
        """Return what an owner knows of its session."""
        known: dict[str, Any] = {
            "claim": claim,
            "metadata": b'{"room":7}',
            "checkpoint": b'{"frame":9}',
            "checkpoint_number": 4,
            "details": b'{"shown":1}',
            "attempt": 2,
            "created_at_ms": 1_700_000_000_000,
            "idempotency_key": "",
            "body_digest": digest("{}"),
            "trace": TRACE,
        }
        return Held(**{**known, **changes})

    # -- behind its back ---------------------------------------------------------------------

    def lapse(self, claim: Claim) -> None:
        """Let a lease be over."""
        self.raw.zadd(self._leases(claim), {f"{claim.call_id}/{claim.session_id}": 1})

    def run_long(self, claim: Claim) -> None:
        """Have a session been accepted long ago."""
        partition = self.keys.partition_of(claim.call_id)
        self.raw.hset(self.keys.session(partition, claim.session_id), "accepted_at", -(10**9))

    def record(self, claim: Claim) -> Record:
        partition = self.keys.partition_of(claim.call_id)
        found = self.raw.hget(self.keys.call(partition, claim.call_id), f"s:{claim.session_id}")
        assert found is not None, f"{claim} has no record"
        return parse_record(found)

    def current(self, claim: Claim) -> Claim:
        """Return the claim of whoever is named in the record now."""
        return claim._replace(fence=self.record(claim).fence)

    def indexes(self, claim: Claim) -> set[str]:
        """Return which indexes name a session."""
        member = f"{claim.call_id}/{claim.session_id}"
        _, leases, pending, *_ = self.keys.partition(self.keys.partition_of(claim.call_id))
        return {
            name
            for name, key in (("leases", leases), ("pending", pending))
            if self.raw.zscore(key, member) is not None
        }

    def all_keys(self) -> set[str]:
        return {key.decode() for key in self.raw.keys("*")}

    def forget(self) -> None:
        """Lose everything, as a Redis without persistence does when it restarts."""
        self.raw.flushall()

    def snapshot(self) -> dict[bytes, tuple[bytes, int]]:
        """Take what :meth:`roll_back` puts back: the content of each key, and its time to live in ms."""
        keys = self.raw.keys("*")
        with self.raw.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.dump(key)
                pipeline.pttl(key)
            found = pipeline.execute()
        return {key: (found[2 * i], max(0, found[2 * i + 1])) for i, key in enumerate(keys)}

    def roll_back(self, snapshot: dict[bytes, tuple[bytes, int]]) -> None:
        """Lose all writes since a snapshot, as a failover does."""
        self.raw.flushall()
        with self.raw.pipeline(transaction=False) as pipeline:
            for key, (dumped, ttl_ms) in snapshot.items():
                pipeline.restore(key, ttl_ms, dumped)
            pipeline.execute()

    def rewind(self, snapshot: dict[bytes, tuple[bytes, int]]) -> None:
        """Go back to a snapshot, without lease time having passed."""
        self.roll_back(snapshot)
        for clock in (self.keys.clock(0), self.keys.registry[0]):
            if self.raw.exists(clock):
                self.raw.hset(clock, "wall_ms", int(time.time() * 1000))

    def contents(self) -> dict[bytes, tuple[bytes, bool]]:
        """Return what two equal states have in common: which keys expire, but not in how many milliseconds."""
        return {key: (dumped, ttl_ms > 0) for key, (dumped, ttl_ms) in self.snapshot().items()}

    def said_of(self, claim: Claim) -> bytes | None:
        """Return who is said to hold a session, of which nothing else can be said."""
        held = self.keys.partition(self.keys.partition_of(claim.call_id))[6]
        return self.raw.hget(held, f"{claim.call_id}/{claim.session_id}")

    def _leases(self, claim: Claim) -> str:
        return self.keys.partition(self.keys.partition_of(claim.call_id))[1]
