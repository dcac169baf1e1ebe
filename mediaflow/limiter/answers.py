"""From the scripts' replies to the messages of the contract."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, cast

import msgspec

from mediaflow.api.streams import Advice, Conflict, StreamAnswer, StreamList, StreamView, Terminator
from mediaflow.limiter import stream_id as ids
from mediaflow.limiter.keyring import Keyring
from mediaflow.limiter.outcomes import StreamEnded, StreamRefused
from mediaflow.limiter.stream_id import StreamFacts


class Answering(NamedTuple):
    """What an answer needs besides a reply."""

    keyring: Keyring
    user_id: str
    heartbeat_interval_ms: int
    signed: bool


def stream(
    answering: Answering,
    stream_id: str,
    facts: StreamFacts,
    reply: Mapping[str, Any],
    *,
    degraded: bool = False,
) -> StreamAnswer:
    """Return the answer about a stream that may play, with its token.

    Args:
        answering: Who is answered.
        stream_id: Of the stream, as the player is to know it.
        facts: The stream.
        reply: ``limit``, ``active``, ``now_ms`` and ``expires_ms``.
        degraded: Whether Redis was not asked.
    """
    keyring, user_id, heartbeat_interval_ms, signed = answering
    now_ms, expires_ms = int(reply["now_ms"]), int(reply["expires_ms"])
    answer = StreamAnswer(
        stream_id=stream_id,
        user_id=user_id,
        device_id=facts.device_id,
        limit=int(reply["limit"]),
        active=int(reply["active"]),
        expires_at=date(expires_ms),
        ttl_ms=max(0, expires_ms - now_ms),
        heartbeat_interval_ms=heartbeat_interval_ms,
        token=None,
        degraded=degraded,
    )
    if not signed or keyring.agreed is None:
        return answer
    claims = _claims(answer, now_ms, expires_ms)
    return msgspec.structs.replace(answer, token=keyring.agreed.token(claims))


def _claims(answer: StreamAnswer, now_ms: int, expires_ms: int) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "sub": answer.user_id,
        "device": answer.device_id,
        "stream": answer.stream_id,
        "limit": answer.limit,
        "active": answer.active,
        "iat": now_ms // 1000,
        # Whole seconds, rounded up: a token must not end before its stream does.
        "exp": -(-expires_ms // 1000),
    }
    if answer.degraded:
        claims["degraded"] = True
    return claims


def refused(reply: Mapping[str, Any]) -> StreamRefused:
    """Return a refusal: every rule that was violated, and the streams in the way."""
    found = _by_key(reply["conflicts"])
    conflicts = [
        Conflict(
            termination_code=one["code"],
            device_id=one["device"],
            started_at=date(int(one["started_ms"])),
            metadata=ids.plain(one["metadata"]),
        )
        for _, one in found
    ]
    codes = {key: str(one["code"]) for key, one in found}
    advice = [
        Advice(
            policy=one["policy"],
            rule=one["rule"],
            attribute=one.get("attribute"),
            threshold=int(one["threshold"]),
            termination_codes=sorted(codes[key] for key in cast("list[str]", one["streams"] or [])),
        )
        for one in reply["violations"]
    ]
    return StreamRefused(int(reply["limit"]), int(reply["active"]), conflicts, advice)


def ended(reply: Mapping[str, Any]) -> StreamEnded:
    """Return why a stream is over, and by whom if another took its place."""
    by = reply.get("by")
    terminator = Terminator(device_id=by["device"], at=date(int(by["at_ms"]))) if by else None
    return StreamEnded(reply["reason"], terminator)


def listing(keyring: Keyring, user_id: str, reply: Mapping[str, Any]) -> StreamList:
    """Return the live streams of a user, oldest first."""
    return StreamList(
        limit=int(reply["limit"]),
        active=int(reply["active"]),
        streams=[_view(keyring, user_id, key, one) for key, one in _by_key(reply["streams"])],
    )


def date(at_ms: int) -> str:
    """Return a moment as RFC 3339 UTC with milliseconds."""
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03}Z"


@lru_cache(maxsize=16)
def _second(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().removesuffix("+00:00")


def _by_key(streams: Any) -> list[tuple[str, dict[str, Any]]]:
    # An empty Lua table is encoded as an empty array by some servers.
    found: dict[str, dict[str, Any]] = dict(streams or {})
    return sorted(found.items(), key=lambda item: (item[1]["started_ms"], item[0]))


def _view(keyring: Keyring, user_id: str, key: str, one: Mapping[str, Any]) -> StreamView:
    attributes = cast("dict[str, str]", dict(one["attributes"] or {}))
    facts = StreamFacts(key, one["device"], int(one["issued_ms"]), attributes, one["metadata"])
    return StreamView(
        stream_id=keyring.issue(user_id, facts),
        device_id=facts.device_id,
        started_at=date(int(one["started_ms"])),
        expires_at=date(int(one["expires_ms"])),
        metadata=ids.plain(facts.metadata),
    )
