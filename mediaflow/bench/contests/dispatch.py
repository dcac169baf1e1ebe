"""Idle dispatch: from asking for a call (or a job) to the first line of its handler, one at a time."""

from mediaflow.bench.contest import Contest, Contestant, Metric
from mediaflow.bench.figures import percentiles_ms
from mediaflow.bench.stage import Stage

_PAUSE_S = 0.01


async def _in_process(stage: Stage) -> dict[str, float]:
    return await _alone(stage, "mediaflow.bench.ours.in_process")


async def _ping(stage: Stage) -> dict[str, float]:
    return await _alone(stage, "mediaflow.bench.peers.ping")


async def _alone(stage: Stage, module: str) -> dict[str, float]:
    said = await stage.result(module, stage.scaled(1000, 50), _PAUSE_S)
    return percentiles_ms(said["seconds"])


DISPATCH = Contest(
    name="dispatch",
    title="idle dispatch, to the first line of the handler",
    metrics=(Metric("p50", "ms", "lower"), Metric("p99", "ms", "lower")),
    ours=Contestant("start_call, in process", _in_process),
    others=(Contestant("PING round trip", _ping, is_limit=True),),
)
