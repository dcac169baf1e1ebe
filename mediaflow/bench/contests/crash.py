"""Recovery: from the kill of a worker with 100 running jobs until all of them run elsewhere."""

from mediaflow.bench.contest import Contest, Contestant, Metric
from mediaflow.bench.contests import queues
from mediaflow.bench.contests.fleet import fleet, worker
from mediaflow.bench.stage import Stage
from mediaflow.bench.tally import HOLD


async def _ours(stage: Stage) -> dict[str, float]:
    number = queues.RUNNING
    async with fleet(stage, 1, slots=number, expected=number, kind=HOLD, watchdog=True) as running:
        await stage.result("mediaflow.bench.ours.caller", "burst", running.url, number)
        await running.workers[0].says("began")
        async with worker(stage, "worker-second", slots=number, expected=number, kind=HOLD) as second:
            await second.ready()
            await stage.result("mediaflow.bench.ours.patience", running.url, 2)
            killed_at_s = running.workers[0].kill()
            began = await second.says("began")
    return {"all": max(began.values()) - killed_at_s}


CRASH = Contest(
    name="crash",
    title=f"kill -9 of a worker with {queues.RUNNING} running jobs, until all run elsewhere",
    metrics=(Metric("all", "s", "lower"),),
    ours=Contestant("lease 10 s", _ours),
    others=queues.survivors(),
)
