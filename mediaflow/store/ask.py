"""Asking Redis: one deadline for a request with its retries, and our own exceptions.

A time-out or a broken connection means that *it may have happened*; every script may be run again
with the same arguments, so we do, until the caller's deadline.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import AuthorizationError as RedisAuthorizationError

from mediaflow.store.link import Call, Link
from mediaflow.store.meter import StoreMeter
from mediaflow.store.records import NotDurable, StoreError, StoreUnavailable

T = TypeVar("T")

TRY_TIMEOUT_S = 1.0
"""Longest wait for one answer, so that a lost reply leaves time to ask again."""

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.25

UNREACHABLE = (RedisError, RedisClusterException, OSError, TimeoutError)
"""All that redis-py raises when there is no usable answer; some of it is one, see :func:`_explain`."""

_PASSING = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError, MovedError, AskError)
_PASSING_WORDS = ("BUSY", "UNKILLABLE", "LOADING")
_KILLED = "Script killed by user"
"""By SCRIPT KILL, which is possible only before the first write: nothing was wrong, and nothing happened."""
_REFUSED = (OutOfMemoryError, RedisAuthorizationError, NoPermissionError)
_REFUSED_WORDS = ("MISCONF", "NOREPLICAS", "NOPERM", "NOAUTH", "ACL failure", "The user executing")


class Asker:
    """Runs scripts over a link, again and again until there is an answer or the deadline."""

    def __init__(self, link: Link) -> None:
        """Ask over ``link``."""
        self.link = link
        self.meter = StoreMeter()

    def run(self, call: Call, *, timeout_s: float, replicas: int = 0) -> Coroutine[Any, Any, Any]:
        """Run one script.

        Raises:
            StoreUnavailable: No answer in time; it may have happened.
            NotDurable: It happened, but fewer than ``replicas`` replicas hold it.
            StoreError: Redis says that the request itself is wrong.
        """
        if replicas:
            return self._run_replicated(call, timeout_s, replicas)
        return self._repeat(partial(self.link.ask, call), call.script.name, timeout_s, TRY_TIMEOUT_S)

    async def _run_replicated(self, call: Call, timeout_s: float, replicas: int) -> Any:
        wait_ms = max(1, int(timeout_s * 500))

        async def once() -> tuple[Any, int]:
            return await self.link.run(call, replicas=replicas, replicas_timeout_ms=wait_ms)

        operation = call.script.name
        reply, held_by = await self.until(
            once, operation=operation, timeout_s=timeout_s, try_timeout_s=TRY_TIMEOUT_S + wait_ms / 1000
        )
        if held_by < replicas:
            self.meter.errors.add(operation, "not_durable")
            raise NotDurable(f"{held_by} of {replicas} replicas hold the write (durability_replicas)")
        return reply

    async def run_many(self, calls: Sequence[Call], *, timeout_s: float) -> list[Any]:
        """Run several scripts in one go; the first that fails fails all, which may have happened."""
        replies = await self.run_each(calls, timeout_s=timeout_s)
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return replies

    async def run_each(self, calls: Sequence[Call], *, timeout_s: float) -> list[Any]:
        """Run several scripts in one go; those that fail give a StoreError in their places, and hold up no others.

        What a server is asked is repeated as far as it failed; of what fails for good, all has the reason of the first.
        """
        replies: list[Any] = [None] * len(calls)
        lanes: defaultdict[Hashable, list[int]] = defaultdict(list)
        for index, call in enumerate(calls):
            lanes[self.link.lane(call)].append(index)

        async def ask(indices: Sequence[int]) -> None:
            left = indices

            async def once() -> None:
                nonlocal left
                for index, reply in zip(
                    left, await self.link.run_many([calls[i] for i in left]), strict=True
                ):
                    replies[index] = reply
                left = [index for index in left if isinstance(replies[index], Exception)]
                if left:
                    raise replies[left[0]]

            try:
                await self.until(once, operation=calls[indices[0]].script.name, timeout_s=timeout_s)
            except StoreError as error:
                for index in left:
                    replies[index] = error

        if len(lanes) == 1:
            await ask(range(len(calls)))
        else:
            await asyncio.gather(*map(ask, lanes.values()))
        return replies

    async def commands(self, commands: Sequence[tuple[Any, ...]], *, timeout_s: float) -> list[Any]:
        """Run reading commands in one go."""
        return await self.until(lambda: self.link.commands(commands), operation="read", timeout_s=timeout_s)

    async def until(
        self,
        once: Callable[[], Awaitable[T]],
        *,
        operation: str,
        timeout_s: float,
        try_timeout_s: float = TRY_TIMEOUT_S,
    ) -> T:
        """Repeat ``once`` while the store cannot answer, for at most ``timeout_s`` seconds.

        It is measured under the name of ``operation``, all its tries together.
        """

        async def bounded(try_timeout_s: float) -> T:
            async with asyncio.timeout(try_timeout_s):
                return await once()

        return await self._repeat(bounded, operation, timeout_s, try_timeout_s)

    async def _repeat(
        self,
        once: Callable[[float], Awaitable[T]],
        operation: str,
        timeout_s: float,
        try_timeout_s: float,
    ) -> T:
        """Repeat ``once``, which is told how long it may take."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        left_s, pause_s = timeout_s, FIRST_PAUSE_S
        while True:
            try:
                answer = await once(min(try_timeout_s, max(left_s, 0.001)))
            except UNREACHABLE as error:
                left_s = began_s + timeout_s - loop.time()
                self._give_up(error, operation, last=left_s <= pause_s)
            else:
                self.meter.requests.observe(loop.time() - began_s, operation)
                return answer
            self.meter.retries.add(operation)
            await asyncio.sleep(pause_s)
            left_s = began_s + timeout_s - loop.time()
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _give_up(self, error: Exception, operation: str, *, last: bool) -> None:
        """Raise what a failed try comes to, unless it may be tried again."""
        try:
            reason, hopeless = _explain(error)
        except StoreError:
            self.meter.errors.add(operation, "rejected")
            raise
        if hopeless or last:
            self.meter.errors.add(operation, "unavailable")
            verb = "refused" if hopeless else "did not answer"
            raise StoreUnavailable(f"Redis {verb}: {reason}") from error


def _explain(error: Exception) -> tuple[str, bool]:
    """Say in a line why there was no answer, and whether asking again within the deadline is hopeless.

    Raises:
        StoreError: It is an answer: the request itself is wrong, and asking again will never help.
    """
    # Behind a colon, redis-py shows the insides of its client instead of a reason; of a pipeline it shows the command,
    # which may hold what is nobody's business.
    text = str(error).partition(": <")[0].rpartition("of pipeline caused error: ")[2].strip(" .(),'\"")
    text = text.partition(" script: ")[0].partition(". Connect call failed")[0] or "no answer in time"
    if isinstance(error, _REFUSED) or text.startswith(_REFUSED_WORDS):
        return text, True
    if not isinstance(error, ResponseError) or isinstance(error, _PASSING):
        return text, False
    if text.startswith(_PASSING_WORDS) or _KILLED in text:
        return text, False
    raise StoreError(f"Redis refused a request of ours: {text}") from error
