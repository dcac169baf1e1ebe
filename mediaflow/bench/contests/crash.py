"""Recovery: from the kill of a worker with 100 running jobs until all of them run elsewhere."""

import asyncio

from mediaflow.bench.contest import Contest, Contestant, Metric
from mediaflow.bench.contests import queues
from mediaflow.bench.contests.fleet import calls, fleet, known, worker
from mediaflow.bench.stage import Stage
from mediaflow.bench.tally import HOLD

_SETTLED_S = 5.0
"""A watchdog that has just started watches for a renewal interval before it sweeps."""


async def _ours(stage: Stage) -> dict[str, float]:
    number = queues.RUNNING
    async with fleet(stage, 1, slots=number, expected=number, kind=HOLD, watchdog=True) as running:
        await calls(stage, running.url, number, at_once=10)
        await running.workers[0].says("began")
        async with worker(stage, "worker-second", slots=number, expected=number, kind=HOLD) as second:
            await second.ready()
            await known(running.url, 2)
            await asyncio.sleep(stage.scaled(_SETTLED_S, 0.0))
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
