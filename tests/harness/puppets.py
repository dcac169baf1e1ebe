"""Instances that do what a test says, straight on the store: to beat, accept, refuse, fall silent."""

import asyncio
import contextlib
import hashlib
import itertools
import secrets

from mediaflow.core import names, partitions
from mediaflow.store import Assignments, Claim, InstanceReport, NewSession, Owner, Store

BEAT_INTERVAL_S = 0.2


class Puppet:
    """An instance without a runtime. ``accepting`` False refuses; None does not even answer."""

    _started = itertools.count(1_700_000_000_000)

    def __init__(self, store: Store, instance_id: str, *, slots: int = 10, address: str = "") -> None:
        self.store = store
        self.instance_id = instance_id
        self.slots = slots
        self.address = address
        self.rank = names.rank(next(self._started), instance_id)
        self.token = secrets.token_hex(8)
        self.incarnation = 0
        self.state = "ready"
        self.accepting: bool | None = True
        self.renewing = True
        self.beating = True
        self.held: dict[str, Claim] = {}
        self.refused: list[Claim] = []
        self.offered: list[Claim] = []
        self.shown_used: int | None = None

    @property
    def owner(self) -> Owner:
        return Owner(self.instance_id, self.incarnation, self.rank)

    async def beat(self) -> None:
        answer = await self.store.heartbeat(
            InstanceReport(
                instance_id=self.instance_id,
                token=self.token,
                incarnation=self.incarnation,
                rank=self.rank,
                address=self.address,
                slots=self.slots,
                used=len(self.held) if self.shown_used is None else self.shown_used,
                state=self.state,
                version="test",
                started_at_ms=int(self.rank.split(":")[0]),
            )
        )
        if answer.status == "alive":
            self.incarnation = answer.incarnation

    async def live(self) -> None:
        """Beat, renew and answer the inbox until cancelled."""
        await self.beat()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_up())
            tasks.create_task(self.listen())

    async def _keep_up(self) -> None:
        while True:
            if self.beating:
                await self.beat()
            if self.renewing:
                await asyncio.gather(*(self._renew(claim) for claim in list(self.held.values())))
            await asyncio.sleep(BEAT_INTERVAL_S)

    async def _renew(self, claim: Claim) -> None:
        answer = await self.store.renew(self.owner, claim)
        if answer.status == "refenced":
            self.held[claim.call_id] = claim._replace(fence=answer.fence)
        elif answer.status != "renewed":
            self.held.pop(claim.call_id, None)

    async def listen(self) -> None:
        """Answer the inbox until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            async for message in self.store.inbox(self.instance_id):
                if isinstance(message, Assignments) and message.incarnation == self.incarnation:
                    for claim in message.claims:
                        self.offered.append(claim)
                        tasks.create_task(self._take(claim))

    async def _take(self, claim: Claim) -> None:
        if self.accepting is None:
            return
        if not self.accepting:
            await self.store.refuse(self.owner, claim, "a test wants it so")
            self.refused.append(claim)
            return
        answer = await self.store.accept(self.owner, claim)
        if answer.status == "accepted":
            self.held[claim.call_id] = claim._replace(fence=answer.fence)

    async def create(self, call_id: str) -> str:
        """Make a session for a call that this puppet owns."""
        made = await create_call(self.store, call_id, self.owner)
        self.held[call_id] = Claim(call_id, made.session_id, made.fence)
        return made.session_id


async def create_call(store: Store, call_id: str, owner: Owner | None = None):
    """Make a session for a call: owned, or pending."""
    partition = partitions.partition_of(call_id, store.partitions)
    return await store.create(
        NewSession(
            call_id=call_id,
            session_id=names.session_id(1_700_000_000_000, partition, secrets.randbits(40)),
            idempotency_key=secrets.token_hex(8),
            body_digest=hashlib.sha256(b"{}").hexdigest(),
            metadata=b"{}",
            owner=owner,
        )
    )


@contextlib.asynccontextmanager
async def running(*coroutines):
    """Run endless coroutines meanwhile; a failure of one fails the test."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
