"""The life of a call played through in a corner of the namespace that nobody else looks at, and swept up after.

It shows what no setting tells: that this user may run what our scripts run, on keys and channels of the namespace.
Not played: streams, and what follows a fault.
"""

import asyncio
import contextlib
from typing import Any

from mediaflow.core import names
from mediaflow.settings import Settings
from mediaflow.store.connect import RedisStore
from mediaflow.store.keys import Keyspace
from mediaflow.store.link import Link
from mediaflow.store.records import (
    Claim,
    Grant,
    InstanceReport,
    NewSession,
    Owner,
    SessionRef,
    StoreError,
)

_DEADLINE_S = 10.0
_SWEEP_UP_S = 2.0
_CALL = "rehearsal"
_QUEUED = "rehearsal-2"
_INSTANCE = "doctor"


class Rehearsal(RedisStore):
    """A store on keys of its own.

    Attributes:
        step: What is being tried, for the message if it fails.
    """

    def __init__(self, link: Link, settings: Settings, token: str) -> None:
        """Prepare; nothing is asked yet.

        Args:
            link: Stays the caller's to close.
            settings: Of the namespace.
            token: Tells this rehearsal from another at the same time.
        """
        super().__init__(link, settings)
        # Below the namespace, so that a user who may touch nothing else can do this.
        self._use(Keyspace(f"{settings.namespace}:doctor-{token}", 1))
        self.step = "connect"
        self._token = token

    async def play(self, now_ms: int) -> str:
        """Play the life of a call; return what went wrong, in a line, empty if nothing did."""
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await self._play(now_ms)
        except StoreError as error:
            return f"{self.step}: {error}"
        except TimeoutError:
            return f"{self.step}: no answer within {_DEADLINE_S:g} s"
        finally:
            with contextlib.suppress(StoreError):
                await self._sweep_up(now_ms)
        return ""

    async def _play(self, now_ms: int) -> None:
        self.step = "register"
        owner = await self._register(now_ms)
        self.step = "create"
        made = await self.create(self._new(_CALL, now_ms, owner))
        self._expect("created", made.status)
        claim = Claim(_CALL, made.session_id, made.fence)
        self.step = "renew"
        self._expect("renewed", (await self.renew(owner, claim)).status)
        self.step = "write"
        self._expect("written", (await self.checkpoint(owner, claim, 1, b"1")).status)
        self.step = "relinquish"
        self._expect("written", (await self.release(owner, claim, "drained")).status)
        self.step = "assign"
        ref = SessionRef(_CALL, made.session_id)
        await self.tick()
        self._expect("assigned", *await self.assign(0, [Grant(ref, owner)], self._token))
        call = await self.describe(_CALL)
        fence = call.sessions[0].fence if call else 0
        self.step = "accept"
        accepted = await self.accept(owner, claim._replace(fence=fence))
        self._expect("accepted", accepted.status)
        self.step = "sweep"
        await self.sweep(0, [ref])
        self.step = "complete"
        self._expect("written", (await self.complete(owner, claim._replace(fence=fence))).status)
        self.step = "cancel"
        await self.create(self._new(_QUEUED, now_ms, None))
        await self.cancel(_QUEUED, "rehearsed")
        self.step = "read"
        await self.calls(state=None, cursor=None, limit=10)
        await self.history(_CALL)
        await self.pending()
        await self.instances()
        self.step = "leave"
        await self.leave(_INSTANCE, owner.incarnation, "rehearsed")

    async def _register(self, now_ms: int) -> Owner:
        report = InstanceReport(
            instance_id=_INSTANCE,
            token=self._token,
            incarnation=0,
            rank=names.rank(now_ms, _INSTANCE),
            address="",
            slots=1,
            used=0,
            state="ready",
            version="",
            started_at_ms=now_ms,
        )
        beat = await self.heartbeat(report)
        return Owner(_INSTANCE, beat.incarnation, report.rank)

    def _new(self, call_id: str, now_ms: int, owner: Owner | None) -> NewSession:
        return NewSession(
            call_id=call_id,
            session_id=names.session_id(now_ms, 0, len(call_id)),
            idempotency_key=self._token,
            body_digest="",
            metadata=b"{}",
            owner=owner,
        )

    def _expect(self, wanted: str, found: str) -> None:
        if found != wanted:
            raise StoreError(f"Redis answered {found} instead of {wanted}: is another doctor at work?")

    async def _sweep_up(self, now_ms: int) -> None:
        keys = self._keys
        left = [keys.constants, *keys.registry, *keys.partition(0)]
        left += [keys.owned(0, instance) for instance in (_INSTANCE, "")]
        for call_id in (_CALL, _QUEUED):
            session_id = names.session_id(now_ms, 0, len(call_id))
            left += [keys.call(0, call_id), keys.session(0, session_id), keys.idempotency(0, call_id)]
        commands: list[tuple[Any, ...]] = [("DEL", key) for key in left]
        await self._asker.commands(commands, timeout_s=_SWEEP_UP_S)
