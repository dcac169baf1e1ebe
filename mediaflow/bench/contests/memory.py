"""Memory: what Redis holds for each stream, with two streams a user."""

from mediaflow.bench.contest import Contest, Contestant, Measure, Metric
from mediaflow.bench.stage import Stage

_DEADLINE_S = 300.0


def _filled(module: str) -> Measure:
    async def measure(stage: Stage) -> dict[str, float]:
        empty_bytes = await _used_bytes(stage)
        said = await stage.result(module, stage.size, deadline_s=_DEADLINE_S)
        return {"memory": (await _used_bytes(stage) - empty_bytes) / said["streams"]}

    return measure


async def _used_bytes(stage: Stage) -> int:
    return int((await stage.redis.info("memory"))["used_memory"])


MEMORY = Contest(
    name="memory",
    title="memory of Redis for each stream, two a user, that has a title and has beaten",
    metrics=(Metric("memory", "B", "lower"),),
    ours=Contestant("mediaflow.concurrency", _filled("mediaflow.bench.ours.filling")),
    others=(
        Contestant(
            "a sorted set by hand, ids alone", _filled("mediaflow.bench.peers.filling"), is_limit=True
        ),
    ),
    sizes=(1_000, 10_000, 100_000),
    axis="users",
    deadline_s=_DEADLINE_S,
)
