"""The job queues, as contestants in what they have in common with us: dispatch, short jobs, recovery from a crash."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple

from mediaflow.bench.contest import Contestant
from mediaflow.bench.figures import percentiles_ms
from mediaflow.bench.program import ProgramError
from mediaflow.bench.stage import Stage, Unfit
from mediaflow.bench.tally import HOLD, NAP, NOTHING

RUNNING = 100
"""Jobs that run on the worker that is killed."""

PAUSE_S = 0.01
"""Between one idle request and the next."""

_RECOVERY_DEADLINE_S = 45.0


class JobQueue(NamedTuple):
    """A library: as people know it, the module in ``peers``, its distributions, how it recovers.

    ``needs_traffic``: it looks for dead workers' jobs only while new ones arrive; ``is_slow``: its recovery is.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    recovers: str
    needs_traffic: bool = False
    is_slow: bool = True


TASKIQ = JobQueue(
    "taskiq on streams", "taskiq_streams", ("taskiq-redis", "taskiq"), "idle 5 s", needs_traffic=True
)
SAQ = JobQueue("SAQ", "saq_queue", ("saq",), "heartbeat 3 s, sweep 1 s")
STREAQ = JobQueue("streaq", "streaq_queue", ("streaq", "coredis"), "idle 1 s", is_slow=False)
ARQ = JobQueue("arq, polling each 10 ms", "arq_queue", ("arq",), "job time-out 5 s")
QUEUES = (TASKIQ, SAQ, STREAQ, ARQ)

Play = Callable[[JobQueue, Stage], Awaitable[dict[str, float]]]


def contestants(play: Play) -> tuple[Contestant, ...]:
    """Return all queues as contestants of a contest."""
    return tuple(Contestant(queue.name, partial(play, queue), queue.packages) for queue in QUEUES)


def survivors() -> tuple[Contestant, ...]:
    """Return all queues as contestants in recovery, with what they recover by."""
    return tuple(
        Contestant(
            f"{queue.name} ({queue.recovers})",
            partial(recovery, queue),
            queue.packages,
            is_slow=queue.is_slow,
        )
        for queue in QUEUES
    )


async def dispatch(queue: JobQueue, stage: Stage) -> dict[str, float]:
    """Return p50 and p99 from enqueueing to a job's first line, one job at a time."""
    number = stage.scaled(200, 20)
    async with (
        _worker(queue, stage, number, NOTHING) as worker,
        _client(queue, stage, "idle", number, PAUSE_S) as client,
    ):
        await worker.says("warm")
        await client.tell("go")
        began = await worker.says("began")
        asked = await client.says("asked")
    return percentiles_ms([began[one] - asked[one] for one in asked])


async def drain(queue: JobQueue, stage: Stage) -> dict[str, float]:
    """Return how many jobs of 0 to 10 ms one process runs a second, enqueued before it starts."""
    number = stage.scaled(2000, 300)
    async with _client(queue, stage, "fill", number) as client:
        await client.tell("go")
        await client.says("asked")
    async with _worker(queue, stage, number, NAP) as worker:
        ran_s = await worker.says("ran_s")
    return {"rate": number / ran_s}


async def recovery(queue: JobQueue, stage: Stage) -> dict[str, float]:
    """Return how long after a kill all that ran on a worker runs on another."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(_worker(queue, stage, RUNNING, HOLD))
        client = await stack.enter_async_context(_client(queue, stage, "fill", RUNNING))
        await first.says("warm")
        await client.tell("go")
        await first.says("began")
        second = await stack.enter_async_context(_worker(queue, stage, RUNNING, HOLD))
        trickle = _client(queue, stage, "trickle", 400 if queue.needs_traffic else 1, 0.1)
        await stack.enter_async_context(trickle)
        await second.says("warm")
        killed_at_s = first.kill()
        try:
            began = await second.says("began", _RECOVERY_DEADLINE_S)
        except ProgramError as error:
            raise Unfit(f"not all {RUNNING} within {_RECOVERY_DEADLINE_S:g} s ({error})") from None
    if early := sum(at_s < killed_at_s for at_s in began.values()):
        raise Unfit(f"{early} of {RUNNING} were started a second time while their worker lived")
    return {"all": max(began.values()) - killed_at_s}


def _worker(queue: JobQueue, stage: Stage, expected: int, kind: str):  # noqa: ANN202 - a context of a program
    return stage.program(f"mediaflow.bench.peers.{queue.module}", "worker", expected, kind)


def _client(queue: JobQueue, stage: Stage, *role: object):  # noqa: ANN202
    return stage.program(f"mediaflow.bench.peers.{queue.module}", "client", *role)
