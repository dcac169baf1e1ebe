"""Primaries: starts and renewals a second on a Redis Cluster, and whether the client or a primary is at its end.

All share one machine: with fewer cores than processes that are busy, more primaries only show what they cost.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from mediaflow.bench.contest import Contest, Contestant, Metric
from mediaflow.bench.ours.primaries import Lap
from mediaflow.bench.stage import Stage


async def _measured(module: str, stage: Stage) -> dict[str, float]:
    cluster = await stage.cluster(stage.size)
    number, rounds = stage.scaled(10_000, 300), stage.scaled(20, 2)
    async with stage.program(
        module, number, rounds, *cluster.pids, environment={"MEDIAFLOW_REDIS_URL": cluster.url}
    ) as client:
        said = await client.heard()
    return figures(said)


def figures(said: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics from what a client says of its two laps."""
    found: dict[str, float] = {}
    for laps, one, doing in (("starts", "start", "starting"), ("renewals", "renewal", "renewing")):
        lap = Lap(**said[laps])
        found[laps] = lap.number / lap.took_s
        found[f"client CPU a {one}"] = 1e6 * lap.client_s / lap.number
        found[f"Redis CPU a {one}"] = 1e6 * sum(lap.primaries_s) / lap.number
        found[f"client busy {doing}"] = 100 * lap.client_s / lap.took_s
        found[f"primary busy {doing}"] = 100 * max(lap.primaries_s) / lap.took_s
    return found


PRIMARIES = Contest(
    name="primaries",
    title="starts and renewals of one process on a Redis Cluster: how many, what they cost, who is busy (% of a core)",
    metrics=(
        Metric("starts", "/s", "higher"),
        Metric("renewals", "/s", "higher"),
        Metric("client CPU a start", "µs", "lower"),
        Metric("client CPU a renewal", "µs", "lower"),
        Metric("Redis CPU a start", "µs", "lower"),
        Metric("Redis CPU a renewal", "µs", "lower"),
        Metric("client busy starting", "%", "lower"),
        Metric("client busy renewing", "%", "lower"),
        Metric("primary busy starting", "%", "lower"),
        Metric("primary busy renewing", "%", "lower"),
    ),
    ours=Contestant("the store", partial(_measured, "mediaflow.bench.ours.primaries")),
    others=(
        Contestant(
            "its scripts, packed beforehand",
            partial(_measured, "mediaflow.bench.ours.bare_primaries"),
            is_limit=True,
        ),
    ),
    sizes=(1, 2, 3),
    axis="primaries",
)
