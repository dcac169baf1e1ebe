"""Calls that count as streams of an account: admitted by the limiter's rules, kept alive for as long as they last.

A call with an account is one stream of a user of that name, on a device of its own. Its session's record carries the
stream, so that whoever owns the session sends its heartbeats; who queued a call does so while it is pending. The stream
is stopped when the call ends, and a stream that is ended by others ends the call.

Not guaranteed: that a place is free at once when its call ended while nobody looked after it (its owner died with it,
a sibling outlived it): then it is free when the stream's life is over.
"""

import asyncio
import contextlib
import hashlib
import importlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import structlog

from mediaflow.core import policy
from mediaflow.limiter import StreamEnded, StreamThrottled, StreamUnknown
from mediaflow.runtime.actor import Actor
from mediaflow.settings import Settings
from mediaflow.store import RedisStore, Store, StoreError, StoreUnavailable

log: Any = structlog.get_logger("mediaflow.account")

STOP_PATIENCE_S = 2.0

EndCall = Callable[[str], Awaitable[object]]
"""Ends a call for a reason."""


class Seat(msgspec.Struct, frozen=True):
    """A call's place among the streams of its account; stored with its session."""

    account: str
    stream_id: str

    def encoded(self) -> bytes:
        """Return it as the session's record holds it."""
        return msgspec.json.encode(self)


def seat_of(encoded: bytes) -> Seat | None:
    """Return the seat that a session's record holds, None if its call has no account."""
    return msgspec.json.decode(encoded, type=Seat) if encoded else None


class Accounts:
    """Counts the calls of an instance by their accounts, with the rules and the store of the concurrency service."""

    def __init__(self, store: Store, settings: Settings) -> None:
        """Count in ``store``; nothing is asked before the first call that has an account.

        Raises:
            SettingsError: ``token_key`` names no key.
        """
        self._store = cast("RedisStore", store)
        self._settings = settings
        self._limiter: Any = None
        self._keeping: set[asyncio.Task[None]] = set()
        if settings.token_key:
            self._limiter = _make_limiter(self._store, settings)

    async def admit(self, account: str, call_id: str, metadata: bytes, key: str) -> Seat:
        """Take a place for a call; the same key finds the same place.

        Raises:
            StreamRefused: One too many.
            StreamThrottled: Too many requests.
            StoreUnavailable: Redis is away, and ``on_store_down`` is ``deny``.
        """
        limiter = await self._limiter_at_hand()
        # Only what rules look at: conflicts are shown to whoever has the account.
        told = policy.attributes(msgspec.json.decode(metadata), self._settings.stream_rules)
        told["callId"] = call_id
        digest = hashlib.sha256(f"{call_id}/{key}".encode()).hexdigest()
        answer = await limiter.start(account, f"call:{call_id}", told, idempotency_key=digest)
        if answer.ttl_ms <= 0:
            # An earlier try took it, could not make the call, and gave it up again.
            digest = secrets.token_hex(16)
            answer = await limiter.start(account, f"call:{call_id}", told, idempotency_key=digest)
        return Seat(account, answer.stream_id)

    async def give_up(self, seat: Seat) -> None:
        """Free a place; if Redis is away it is free when its stream expires."""
        limiter = await self._limiter_at_hand()
        try:
            async with asyncio.timeout(STOP_PATIENCE_S):
                await limiter.stop(seat.account, seat.stream_id)
        except (StreamEnded, StreamUnknown):
            return
        except (StoreError, TimeoutError) as error:
            log.warning("account.place_left_to_expire", account=seat.account, reason=str(error))

    def keep(
        self, group: asyncio.TaskGroup, seat: Seat, actor: Actor, end_call: EndCall, *, is_fresh: bool
    ) -> None:
        """Keep the place of a session that runs here until it does no more; free it if nobody goes on with it."""

        async def look_after() -> None:
            if await self._beat(seat, end_call, actor.over, is_fresh=is_fresh) and actor.ended_call:
                await self.give_up(seat)

        task = group.create_task(look_after(), name=f"place of {actor.session_id}")
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    def keep_waiting(
        self, group: asyncio.TaskGroup, seat: Seat, call_id: str, session_id: str, end_call: EndCall
    ) -> None:
        """Keep the place of a session that was queued here for as long as it is pending."""

        async def look_after() -> None:
            while True:
                await asyncio.sleep(self._settings.stream_heartbeat_interval)
                try:
                    call = await self._store.describe(call_id)
                except StoreError:
                    continue
                states = {one.session_id: one.state for one in call.sessions} if call else {}
                state = states.get(session_id)
                if state == "active":
                    return  # its owner sends the heartbeats
                if state != "pending":
                    await self.give_up(seat)
                    return
                if not await self._beat_once(seat, end_call):
                    return

        group.create_task(look_after(), name=f"place of waiting {session_id}")

    async def settle(self) -> None:
        """Wait until what ended here has freed its places."""
        if self._keeping:
            await asyncio.wait(self._keeping, timeout=STOP_PATIENCE_S)

    async def _beat(self, seat: Seat, end_call: EndCall, over: asyncio.Event, *, is_fresh: bool) -> bool:
        """Send heartbeats until the session is over (True), or its stream was ended by others (False)."""
        if not is_fresh and not await self._beat_once(seat, end_call):
            return False
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.stream_heartbeat_interval):
                    await over.wait()
            if not over.is_set() and not await self._beat_once(seat, end_call):
                return False
        return True

    async def _beat_once(self, seat: Seat, end_call: EndCall) -> bool:
        """Send a heartbeat; False if the stream was ended by others, and the call with it."""
        limiter = await self._limiter_at_hand()
        try:
            await limiter.heartbeat(seat.account, seat.stream_id)
        except StreamEnded as ended:
            log.info("account.stream_ended", account=seat.account, reason=ended.reason)
            try:
                await end_call(f"account {seat.account}: {ended}")
            except StoreUnavailable:
                return True  # the next heartbeat says so again
            return False
        except (StreamThrottled, StoreUnavailable):
            return True  # a call that runs goes on while Redis is away; what is throttled lives on
        except (StreamUnknown, StoreError) as error:
            log.warning("account.stream_not_counted", account=seat.account, reason=str(error))
        return True

    async def _limiter_at_hand(self) -> Any:
        if self._limiter is None:
            # What signs stream ids takes long to load, and sessions have to be renewed meanwhile.
            await asyncio.to_thread(importlib.import_module, "mediaflow.limiter.limiter")
            self._limiter = self._limiter or _make_limiter(self._store, self._settings)
        return self._limiter


def _make_limiter(store: RedisStore, settings: Settings) -> Any:
    from mediaflow.limiter import StreamLimiter

    return StreamLimiter(settings, store=store)
