"""Messages: hints over pub/sub, each of which may be lost.

Whoever listens gets ``Changed("resync")`` first and after each gap, and must then look for itself.

Anyone who can reach Redis can publish, so nothing here is believed: what is not written as our scripts write it is
dropped, and what is may still be a lie. It starts nothing by itself; Redis' records are asked first.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import structlog
from redis.exceptions import NoPermissionError

from mediaflow.core import names
from mediaflow.store.ask import UNREACHABLE
from mediaflow.store.part import Part
from mediaflow.store.records import Assignments, Changed, Claim, Hint

SILENCE_S = 5.0
"""After as long without a message the connection is tested; after twice that it is given up."""

CONFIRMATION_S = 1.0
"""A subscription that is not confirmed by then may not exist, though PINGs on its connection are answered."""

RECONNECT_PAUSE_S = 0.1
LONGEST_RECONNECT_PAUSE_S = 1.0

CHANGES = frozenset({"instances", "pending"})
"""What our scripts say on the channel for everyone."""

_NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)  # Lua's numbers are exact as far as that

_log: Any = structlog.get_logger(__name__)


class Bus(Part):
    """Subscriptions that mend themselves."""

    async def inbox(self, instance_id: str) -> AsyncIterator[Assignments | Hint | Changed]:
        """Listen for messages to an instance."""
        async for message in self._listen(self._keys.inbox_prefix + instance_id, "inbox"):
            if message is None:
                yield Changed("resync")
                continue
            kind, _, rest = message.partition(" ")
            if kind == "assign":
                for assignments in _assignments(rest):
                    yield assignments
            elif kind == "hint" and names.is_session_id(rest):
                yield Hint(rest)

    async def changes(self) -> AsyncIterator[Changed]:
        """Listen for hints that something changed."""
        async for message in self._listen(self._keys.hints_channel, "hints"):
            kind, _, name = (message or "resync").partition(" ")
            if kind == "draining" and name:
                yield Changed("instances", draining=name)
            elif message is None or message in CHANGES:
                yield Changed(kind)

    async def _listen(self, channel: str, kind: str) -> AsyncIterator[str | None]:
        """Yield messages of a channel; None after each (re)connection, which are counted by ``kind``."""
        pause_s = RECONNECT_PAUSE_S
        told = ""
        while True:
            pubsub: Any = None
            try:
                async with asyncio.timeout(2.0):
                    pubsub = self._asker.link.pubsub()
                    await pubsub.subscribe(channel)
                    if await self._next(pubsub, CONFIRMATION_S) is None:
                        raise TimeoutError("the subscription was not confirmed")
                self.meter.subscriptions.add(kind)
                yield None
                pause_s, told = RECONNECT_PAUSE_S, ""
                async for message in self._messages(pubsub):
                    yield message
            except NoPermissionError as error:
                # Of a Redis that is away others tell; this nobody else would notice, and all would only be slow.
                if str(error) != told:
                    told = str(error)
                    _log.error("messages cannot be listened to", channel=channel, reason=told)
            except UNREACHABLE:
                # The next turn connects anew, and tells the listener that it has missed something.
                pass
            finally:
                if pubsub is not None:
                    await _close(pubsub)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RECONNECT_PAUSE_S)

    async def _messages(self, pubsub: Any) -> AsyncIterator[str]:
        """Yield messages until the connection breaks, or is silent to a PING as well."""
        pinged = False
        while True:
            message = await self._next(pubsub, SILENCE_S)
            if message is not None and message["type"] == "message":
                # What is no UTF-8 is none of ours, and dropped with all the rest that is not.
                yield bytes(message["data"]).decode(errors="replace")
            elif message is None and pinged:
                return
            elif message is None:
                await pubsub.ping()
            pinged = message is None

    @staticmethod
    async def _next(pubsub: Any, timeout_s: float) -> Any:
        message = await pubsub.get_message(timeout=timeout_s)
        # fakeredis waits by asyncio.wait_for, which on Python 3.11 drops a cancellation that comes together
        # with the message (cpython #86296).
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        return message


def _assignments(text: str) -> Iterator[Assignments]:
    """Return the assignments of a message by incarnation, those of them that are well-formed."""
    claims: dict[int, list[Claim]] = {}
    for item in text.split():
        parts = item.split("/")
        if len(parts) != 4:
            continue
        call_id, session_id, incarnation, fence = parts
        if not (
            names.is_session_id(session_id) and _NUMBER.fullmatch(incarnation) and _NUMBER.fullmatch(fence)
        ):
            continue
        try:
            names.check_call_id(call_id)
        except names.IllegalName:
            continue
        claims.setdefault(int(incarnation), []).append(Claim(call_id, session_id, int(fence)))
    for incarnation_of_all, found in claims.items():
        yield Assignments(tuple(found), incarnation_of_all)


async def _close(pubsub: Any) -> None:
    try:
        async with asyncio.timeout(1.0):
            await pubsub.aclose()
    except UNREACHABLE:
        return
