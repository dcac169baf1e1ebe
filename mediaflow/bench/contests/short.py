"""Short jobs: of 0 to 10 ms, by one process that runs 100 at a time; the limit is what Redis alone would allow."""

from mediaflow.bench.contest import Contest, Contestant, Metric
from mediaflow.bench.contests import queues
from mediaflow.bench.contests.creating import create_script
from mediaflow.bench.stage import Stage


async def _ours(stage: Stage) -> dict[str, float]:
    number = stage.scaled(2000, 300)
    async with stage.program("mediaflow.bench.ours.short", number) as app:
        return {"rate": number / await app.says("ran_s")}


SHORT = Contest(
    name="jobs",
    title="jobs of 0 to 10 ms, one process, 100 at a time",
    metrics=(Metric("rate", "/s", "higher"),),
    ours=Contestant("sessions", _ours),
    others=(
        *queues.contestants(queues.drain),
        Contestant("create by redis-benchmark", create_script, is_limit=True),
    ),
)
