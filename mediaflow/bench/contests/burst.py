"""A burst: 1,000 calls at once, on 10 workers that have just as many slots.

That no worker was ever over its slots follows from the figures: they are there only if each has begun as many
sessions as it has slots, and there were no more calls than that.
"""

from mediaflow.bench.contest import Contest, Contestant, Metric
from mediaflow.bench.contests.fleet import bare, calls, fleet
from mediaflow.bench.figures import percentiles_ms
from mediaflow.bench.stage import Stage
from mediaflow.bench.tally import HOLD


async def _ours(stage: Stage) -> dict[str, float]:
    workers, slots = stage.scaled(10, 2), stage.scaled(100, 30)
    async with fleet(stage, workers, slots=slots, expected=slots, kind=HOLD, watchdog=True) as running:
        said = await calls(stage, running.url, workers * slots, at_once=workers * slots)
        began = {
            one: at_s for worker in running.workers for one, at_s in (await worker.says("began")).items()
        }
    asked = said["asked"]
    figures = percentiles_ms([began[one] - asked[one] for one in asked])
    answered = percentiles_ms([said["answered"][one] - asked[one] for one in asked])
    return figures | {"answer p99": answered["p99"]}


async def _bare(stage: Stage) -> dict[str, float]:
    async with bare(stage) as url:
        number = stage.scaled(1000, 60)
        said = await calls(stage, url, number, at_once=number)
    answered = percentiles_ms([said["answered"][one] - at_s for one, at_s in said["asked"].items()])
    return answered | {"answer p99": answered["p99"]}


BURST = Contest(
    name="burst",
    title="1,000 calls at once over HTTP, 10 workers of 100 slots: to the first line of the handler, and to the answer",
    metrics=(Metric("p50", "ms", "lower"), Metric("p99", "ms", "lower"), Metric("answer p99", "ms", "lower")),
    ours=Contestant("balancer and workers", _ours),
    others=(Contestant("bare proxy and one empty handler", _bare, is_limit=True),),
)
