"""StreamLimiter: how many streams a user plays at once, and no to one too many.

Stateless but for its key: any number of limiters over one Redis agree, because count, decision and write are
one script. With Redis away it allows streams uncounted (``degraded``), or denies them, as ``on_store_down`` says;
an id it gives out then is admitted with the first heartbeat after Redis is back, if there is room.
"""

import asyncio
import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from mediaflow import settings as settings_module
from mediaflow.api.streams import OnLimit, StreamAnswer, StreamList
from mediaflow.core import names, policy
from mediaflow.limiter import answers
from mediaflow.limiter import stream_id as ids
from mediaflow.limiter.keyring import Keyring
from mediaflow.limiter.outcomes import (
    StreamKeyConflict,
    StreamThrottled,
    StreamUnknown,
)
from mediaflow.limiter.random_texts import RandomTexts
from mediaflow.limiter.stream_id import StreamFacts
from mediaflow.settings import Settings
from mediaflow.store import RedisStore, StoreUnavailable, open_store

log: Any = structlog.get_logger("mediaflow.limiter")

MAX_METADATA_BYTES = 16 * 1024
ANSWER_WITHIN_S = 0.45
"""Players wait for an answer before they play: what takes longer counts as Redis being away."""


_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of characters."""


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class StreamLimiter:
    """The concurrency service without HTTP; ``async with`` it.

    Attributes:
        counts: Streams ``started``, ``refused``, ``taken_over``, ``expired``, ``stopped``, ``readmitted``,
            ``degraded`` and requests ``throttled``, by this limiter.
        on_start: Is told how many streams the user has, at each start.
        problem: Why Redis is away, empty if it is not.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        redis: str | None = None,
        store: RedisStore | None = None,
        now_ms: Callable[[], int] = _wall_ms,
        **flags: Any,
    ) -> None:
        """Take settings whole, or by name over the environment and the defaults.

        Args:
            settings: All settings; None gathers them.
            redis: ``redis://…``, or ``memory://``.
            store: An open store to share; it stays the caller's to close.
            now_ms: Wall clock, for when Redis, whose clock counts otherwise, is away.
            flags: Settings by name (``stream_limit=2``).

        Raises:
            SettingsError: A setting is wrong.
        """
        self.settings = settings or settings_module.load({"redis_url": redis, **flags}, os.environ)
        self._keyring = Keyring(self.settings.token_key)
        self._names, self._codes = RandomTexts(9), RandomTexts(12)
        self._given_store = store
        self._now_ms = now_ms
        self._store = store
        self._rules = (
            policy.user_rule(0, self.settings.count_by),
            *self.settings.stream_rules,
        )
        rules = [policy.plain_rule(rule) for rule in self._rules]
        # Encoded once: they are the larger part of a request.
        self._standing: dict[str, Any] = _standing(self.settings, msgspec.Raw(msgspec.json.encode(rules)))
        self._interval_ms = int(self.settings.stream_heartbeat_interval * 1000)
        self.counts: Counter[str] = Counter()
        self.on_start: Callable[[int], None] | None = None
        self.problem = ""

    async def __aenter__(self) -> Self:
        """Open the store; Redis need not be there yet."""
        if self._store is None:
            self._store = await open_store(self.settings)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the store, unless it was handed in."""
        if self._given_store is None and self._store is not None:
            store, self._store = self._store, None
            await store.close()

    # -- requests ---------------------------------------------------------------------------

    async def start(
        self,
        user_id: str,
        device_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        on_limit: OnLimit = "reject",
        terminate: Sequence[str] = (),
        replaces: str | None = None,
        idempotency_key: str | None = None,
        limit: int | None = None,
    ) -> StreamAnswer:
        """Begin a stream, if every rule allows it.

        Args:
            user_id: 1 to 256 characters, any but control characters.
            device_id: Likewise.
            metadata: A JSON object, 16 KiB at most: what rules look at and conflicts show.
            on_limit: With one too many: refuse this one, or end the ones that were started first.
            terminate: Codes from a refusal, of streams to end in the same step.
            replaces: A stream of the user that this one takes the place of.
            idempotency_key: Repeat a request that may have been carried out.
            limit: The user's limit as its token claims it; goes before all others.

        Raises:
            StreamRefused: One too many; nothing was changed.
            StreamThrottled, StreamKeyConflict: See :mod:`mediaflow.limiter.outcomes`.
            StoreUnavailable: Redis is away, and ``on_store_down`` is ``deny``.
            ValueError: An argument is not legal.
        """
        _check_id("userId", user_id)
        if idempotency_key is not None:
            names.check_idempotency_key(idempotency_key)
        facts = self._new_facts(device_id, metadata or {})
        try:
            left_s = await self._agree() if self._is_strange() else ANSWER_WITHIN_S
            request = self._request(facts, limit, on_limit=on_limit, terminate=list(terminate))
            if (replaced := self._replaced(user_id, replaces)) is not None:
                request["replaces"] = replaced
            if idempotency_key is not None:
                request["key"] = idempotency_key
                request["digest"] = _digest(facts.metadata, device_id, on_limit, sorted(terminate), replaces)
            reply = await self._ask("start", user_id, request, left_s)
        except StoreUnavailable:
            return self._degraded(user_id, facts, limit)
        self._conclude_start(reply)
        if reply["id"] != facts.key:
            facts = facts._replace(key=reply["id"], issued_ms=reply["issued_ms"])
        return answers.stream(self._answering(user_id), self._keyring.issue(user_id, facts), facts, reply)

    async def heartbeat(self, user_id: str, stream_id: str, *, limit: int | None = None) -> StreamAnswer:
        """Keep a stream alive; one that expired comes back if ``readmit`` is set and there is room.

        Args:
            user_id: Whose stream it is.
            stream_id: As :meth:`start` gave it.
            limit: The user's limit as its token claims it; goes before all others.

        Raises:
            StreamUnknown: The id was never given to this user.
            StreamEnded: It is over.
            StreamThrottled: Too many requests.
            StoreUnavailable: Redis is away, and ``on_store_down`` is ``deny``.
        """
        _check_id("userId", user_id)
        try:
            left_s = await self._agree() if self._is_strange() else ANSWER_WITHIN_S
            known = self._keyring.read(user_id, stream_id)
            request = self._request(known.facts, limit, readmit=self.settings.readmit)
            reply = await self._ask("beat", user_id, request, left_s)
        except StoreUnavailable:
            return self._degraded(user_id, self._keyring.believe(user_id, stream_id), limit, stream_id)
        if reply["status"] == "ended":
            raise answers.ended(reply)
        if reply["status"] == "readmitted":
            self.counts["readmitted"] += 1
        return answers.stream(self._answering(user_id), known.stream_id, known.facts, reply)

    async def stop(self, user_id: str, stream_id: str) -> None:
        """End a stream; a heartbeat that comes late changes nothing any more.

        Args:
            user_id: Whose stream it is.
            stream_id: As :meth:`start` gave it.

        Raises:
            StreamUnknown: The id was never given to this user.
            StreamEnded: It was over already.
            StoreUnavailable: Redis is away, and ``on_store_down`` is ``deny``.
        """
        _check_id("userId", user_id)
        try:
            left_s = await self._agree() if self._is_strange() else ANSWER_WITHIN_S
            facts = self._keyring.read(user_id, stream_id).facts
            request = self._request(facts, None, operation=self._names.next())
            reply = await self._ask("stop", user_id, request, left_s)
        except StoreUnavailable:
            self._keyring.believe(user_id, stream_id)
            if self.settings.on_store_down == "deny":
                raise
            self.counts["degraded"] += 1
            return
        if reply["status"] == "ended":
            raise answers.ended(reply)
        self.counts["stopped"] += 1

    async def list(self, user_id: str, *, limit: int | None = None) -> StreamList:
        """Return the live streams of ``user_id``, oldest first; ``limit`` as for :meth:`heartbeat`.

        Raises:
            StoreUnavailable: Redis is away.
        """
        _check_id("userId", user_id)
        left_s = await self._agree() if self._is_strange() else ANSWER_WITHIN_S
        reply = await self._ask("list", user_id, self._limiting(limit), left_s)
        return answers.listing(self._keyring, user_id, reply)

    async def set_limit(self, user_id: str, limit: int | None) -> None:
        """Set how many streams a user may play from now on; live ones are left alone.

        Args:
            user_id: Whose limit it is.
            limit: From 0 to 10,000; None goes back to the setting.

        Raises:
            ValueError: ``limit`` is none from 0 to 10,000.
            StoreUnavailable: Redis is away.
        """
        _check_id("userId", user_id)
        if limit is not None and not 0 <= limit <= policy.MOST_STREAMS:
            raise ValueError(
                f"limit {limit} is not allowed: use a whole number from 0 to {policy.MOST_STREAMS:,}"
            )
        await self._open().set_stream_limit(user_id, limit)

    async def jwks(self) -> dict[str, Any]:
        """Return the keys that verify tokens (RFC 7517); none while no key is known."""
        try:
            if self._is_strange():
                await self._agree()
        except StoreUnavailable:
            return {"keys": []}
        agreed = self._keyring.agreed
        return {"keys": [agreed.jwk()] if agreed else []}

    # -- how ----------------------------------------------------------------------------------

    def _open(self) -> RedisStore:
        if self._store is None:
            raise RuntimeError("the limiter is not open: use it inside 'async with limiter:'")
        return self._store

    async def _ask(
        self, script: str, user_id: str, request: dict[str, Any], within_s: float
    ) -> dict[str, Any]:
        try:
            reply = await self._open().stream(script, user_id, request, timeout_s=within_s)
        except StoreUnavailable as error:
            self._note(str(error))
            raise
        self._note("")
        self.counts["expired"] += int(reply["expired"])
        if reply["status"] == "throttled":
            self.counts["throttled"] += 1
            raise StreamThrottled(
                "user or stream", self.settings.stream_throttle, max(1.0, reply["retry_ms"] / 1000)
            )
        return reply

    def _note(self, problem: str) -> None:
        if problem and not self.problem:
            log.warning("streams.store_away", reason=problem, streams=self.settings.on_store_down)
        elif not problem and self.problem:
            log.info("streams.store_back")
        self.problem = problem

    def _is_strange(self) -> bool:
        """Tell whether the key of this Redis is not known, and has to be asked for first."""
        return not self._keyring.agrees_with(self._open())

    async def _agree(self) -> float:
        """Learn the key; return how much is left then of the time in which a request has to be answered."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + ANSWER_WITHIN_S
        try:
            async with asyncio.timeout_at(until_s):
                await self._keyring.agree(self._open())
        except TimeoutError:
            self._note("no answer in time")
            raise StoreUnavailable(f"Redis did not answer within {ANSWER_WITHIN_S:g} s") from None
        except StoreUnavailable as error:
            self._note(str(error))
            raise
        return until_s - loop.time()

    def _new_facts(self, device_id: str, metadata: Mapping[str, Any]) -> StreamFacts:
        _check_id("deviceId", device_id)
        # In one order, so that a repeated request is the same, and is answered with the very same id.
        encoded = msgspec.json.encode(dict(metadata), order="sorted")
        if len(encoded) > MAX_METADATA_BYTES:
            raise ValueError(f"metadata of {len(encoded)} bytes of JSON: at most {MAX_METADATA_BYTES} fit")
        facts = StreamFacts(
            key=self._names.next(),
            device_id=device_id,
            issued_ms=self._now_ms(),
            attributes=policy.attributes(dict(metadata), self._rules),
            metadata=encoded.decode(),
        )
        if not ids.fits(facts):
            raise ValueError("metadata: the attributes that rules look at are too long: shorten their values")
        return facts

    def _conclude_start(self, reply: Mapping[str, Any]) -> None:
        match reply["status"]:
            case "conflict":
                raise StreamKeyConflict("this Idempotency-Key was used with another request: use a new key")
            case "refused":
                self.counts["refused"] += 1
                raise answers.refused(reply)
            case "started":
                self.counts["started"] += 1
                self.counts["taken_over"] += reply["taken_over"]
                if self.on_start is not None:
                    self.on_start(reply["active"])
            case _:
                # The answer to a repeated request; it was counted the first time.
                return

    def _request(self, facts: StreamFacts, limit: int | None, **more: Any) -> dict[str, Any]:
        return {
            **self._limiting(limit),
            **more,
            "id": facts.key,
            "device": facts.device_id,
            "attributes": facts.attributes,
            "metadata": facts.metadata,
            "code": self._codes.next(),
            "issued_ms": facts.issued_ms,
        }

    def _limiting(self, limit: int | None) -> dict[str, Any]:
        # What is not said is left out: in Lua a JSON null is a value like any other, and true.
        return self._standing if limit is None else {**self._standing, "limit": limit}

    def _replaced(self, user_id: str, stream_id: str | None) -> str | None:
        """Return the store's name of a stream that is to be replaced; an id of nothing replaces nothing."""
        try:
            return self._keyring.read(user_id, stream_id).facts.key if stream_id else None
        except StreamUnknown:
            return None

    def _answering(self, user_id: str) -> answers.Answering:
        return answers.Answering(self._keyring, user_id, self._interval_ms, self.settings.stream_tokens)

    def _degraded(
        self, user_id: str, facts: StreamFacts, limit: int | None, stream_id: str = ""
    ) -> StreamAnswer:
        """Answer without Redis: nothing is counted, and nobody is refused."""
        if self.settings.on_store_down == "deny":
            raise StoreUnavailable(f"streams cannot be counted now: {self.problem}")
        self.counts["degraded"] += 1
        now_ms = self._now_ms()
        uncounted = {
            "limit": self.settings.stream_limit if limit is None else limit,
            "active": 1,
            "now_ms": now_ms,
            "expires_ms": now_ms + int(self.settings.stream_ttl * 1000),
        }
        stream_id = stream_id or self._keyring.issue(user_id, facts)
        return answers.stream(self._answering(user_id), stream_id, facts, uncounted, degraded=True)


def _standing(settings: Settings, rules: msgspec.Raw) -> dict[str, Any]:
    """Return what all requests to the scripts have in common."""
    standing: dict[str, Any] = {
        "ttl_ms": int(settings.stream_ttl * 1000),
        "rules": rules,
        "default_limit": settings.stream_limit,
        "count_by": settings.count_by,
        "throttle": settings.stream_throttle,
        "retention_ms": int(max(settings.retention, 2 * settings.stream_ttl) * 1000),
    }
    # What was counted by other rules counts for nothing.
    return standing | {"settings_id": _digest(standing)}


def _check_id(name: str, value: str) -> None:
    if not 1 <= len(value) <= 256 or _NO_TEXT.search(value):
        raise ValueError(
            f"{name} {value[:80]!r} is not allowed: use 1 to 256 characters, no control characters"
        )


def _digest(*parts: Any) -> str:
    """Return what tells a request that is repeated from another with the same key."""
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()
