"""Idle dispatch: from asking for a call (or a job) to the first line of its handler, one at a time."""

from mediaflow.bench.contest import Contest, Contestant, Metric
from mediaflow.bench.contests import queues
from mediaflow.bench.contests.fleet import bare, calls, fleet
from mediaflow.bench.figures import percentiles_ms
from mediaflow.bench.stage import Stage
from mediaflow.bench.tally import NOTHING

_METRICS = (Metric("p50", "ms", "lower"), Metric("p99", "ms", "lower"))


async def _in_process(stage: Stage) -> dict[str, float]:
    return await _alone(stage, "mediaflow.bench.ours.in_process")


async def _ping(stage: Stage) -> dict[str, float]:
    return await _alone(stage, "mediaflow.bench.peers.ping")


async def _alone(stage: Stage, module: str) -> dict[str, float]:
    said = await stage.result(module, stage.scaled(200, 20), queues.PAUSE_S)
    return percentiles_ms(said["seconds"])


async def _over_http(stage: Stage) -> dict[str, float]:
    number = stage.scaled(200, 20)
    async with fleet(stage, 1, slots=100, expected=number, kind=NOTHING) as running:
        said = await calls(stage, running.url, number, pause_s=queues.PAUSE_S)
        began = await running.workers[0].says("began")
    return percentiles_ms([began[one] - asked for one, asked in said["asked"].items()])


async def _bare(stage: Stage) -> dict[str, float]:
    async with bare(stage) as url:
        number = stage.scaled(200, 20)
        said = await calls(stage, url, number, pause_s=queues.PAUSE_S)
    return percentiles_ms([said["answered"][one] - said["asked"][one] for one in said["asked"]])


DISPATCH = Contest(
    name="dispatch",
    title="idle dispatch in process: start_call, or enqueueing, to the first line of the handler",
    metrics=_METRICS,
    ours=Contestant("start_call", _in_process),
    others=(*queues.contestants(queues.dispatch), Contestant("PING round trip", _ping, is_limit=True)),
)

OVER_HTTP = Contest(
    name="http",
    title="idle dispatch over HTTP: POST to the balancer, or enqueueing, to the first line of the handler",
    metrics=_METRICS,
    ours=Contestant("POST /calls", _over_http),
    others=(
        *queues.contestants(queues.dispatch),
        Contestant("bare proxy and empty handler, answered", _bare, is_limit=True),
    ),
)
