"""Looking at a user's streams without a limiter: no key is agreed on, and no stream id is given out."""

from collections.abc import Mapping
from typing import Any, Protocol, cast

from mediaflow.api.occupancy import PlayingView, RuleView, UserStreams
from mediaflow.core import policy
from mediaflow.core.occupancy import Occupancy, Playing, occupancy
from mediaflow.limiter import stream_id as ids
from mediaflow.limiter.answers import date
from mediaflow.settings import Settings


class StreamStore(Protocol):
    """The part of a store that knows streams."""

    async def stream(self, script: str, user_id: str, request: dict[str, Any]) -> dict[str, Any]:
        """Run ``stream_<script>`` for a user."""
        ...


async def look(store: StreamStore, settings: Settings, user_id: str) -> UserStreams:
    """Return what a user plays now, and how full each rule of these settings is.

    A limit that only a player's token claims is not known here.

    Raises:
        StoreUnavailable: Redis did not answer.
    """
    request = {"default_limit": settings.stream_limit, "count_by": settings.count_by}
    reply = await store.stream("list", user_id, request)
    found = cast("dict[str, dict[str, Any]]", dict(reply["streams"] or {}))
    streams = [found[key] for key in sorted(found, key=lambda key: (found[key]["started_ms"], key))]
    rules = (policy.user_rule(int(reply["limit"]), settings.count_by), *settings.stream_rules)
    playing = [Playing(one["device"], dict(one["attributes"] or {})) for one in streams]
    return UserStreams(
        user_id=user_id,
        limit=int(reply["limit"]),
        active=int(reply["active"]),
        streams=[_stream(one, int(reply["now_ms"])) for one in streams],
        rules=[_rule(one) for one in occupancy(rules, playing)],
    )


def _stream(one: Mapping[str, Any], now_ms: int) -> PlayingView:
    expires_ms = int(one["expires_ms"])
    return PlayingView(
        device_id=one["device"],
        started_at=date(int(one["started_ms"])),
        expires_at=date(expires_ms),
        remaining_ms=max(0, expires_ms - now_ms),
        metadata=ids.plain(one["metadata"]),
    )


def _rule(one: Occupancy) -> RuleView:
    rule = one.rule
    return RuleView(
        policy=rule.policy,
        rule=rule.count,
        attribute=rule.attribute,
        value=one.value,
        where=rule.where,
        threshold=rule.max,
        taken=one.taken,
        full=one.full,
        streams=list(one.streams),
    )
