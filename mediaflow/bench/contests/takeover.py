"""Takeover: from the SIGKILL of a worker to the first line of its sessions' handlers elsewhere, the last one's too."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from mediaflow.bench.contest import Contest, Contestant, Metric
from mediaflow.bench.contests.filling import fill, sessions
from mediaflow.bench.figures import quantile
from mediaflow.bench.ours.moments import read_moments
from mediaflow.bench.program import Program, cpu_s
from mediaflow.bench.stage import Stage, Unfit

HEIRS = 2
LEASE_TTL_S = 10.0

_VICTIM = "victim"
_SETTLED_S = 1.5
"""Within this a watchdog that may sweep has also reached all instances."""

_DEADLINE_S = 40.0


async def _ours(stage: Stage) -> dict[str, float]:
    number = sessions(stage)
    starts = stage.scratch / f"starts-{time.monotonic_ns()}"
    async with AsyncExitStack() as running, _victim(stage, number) as victim:
        watchdog = stage.program("mediaflow.watchdog", "--port", 0, "--lease-ttl", _ttl_s(stage))
        programs = [await running.enter_async_context(watchdog)]
        for _ in range(HEIRS):
            heir = stage.program(
                *_worker(stage),
                *("--app", "mediaflow.bench.ours.starts:handle"),
                environment={"BENCH_STARTS": str(starts)},
            )
            programs.append(await running.enter_async_context(heir))
            await programs[-1].ready()
        await asyncio.sleep(_ttl_s(stage) / 3 + _SETTLED_S)  # it sweeps nothing before a renewal is due
        await _watch_scripts(stage)
        spent_s = _spent_s(stage, programs)
        killed_at_ns = time.monotonic_ns()
        victim.kill()
        moments_ns = await _moments(starts, number)
        spent_s = _spent_s(stage, programs) - spent_s
    took_s = [(moment_ns - killed_at_ns) / 1e9 for moment_ns in moments_ns]
    return await _figures(stage, took_s, spent_s)


async def _bare(stage: Stage) -> dict[str, float]:
    number = sessions(stage)
    async with _victim(stage, number) as victim:
        victim.kill()
        await _watch_scripts(stage)
        spent_s = _spent_s(stage)
        said = await stage.result("mediaflow.bench.ours.bare_takeover", _VICTIM, number)
        return await _figures(stage, said["seconds"], _spent_s(stage) - spent_s + said["cpu_s"])


def _spent_s(stage: Stage, programs: Sequence[Program] = ()) -> float:
    """Return the CPU time that Redis and the programs have used."""
    return cpu_s(stage.redis_pid) + sum(program.cpu_s() for program in programs)


def _ttl_s(stage: Stage) -> float:
    return stage.scaled(LEASE_TTL_S, 3.0)


def _worker(stage: Stage) -> tuple[str, *tuple[object, ...]]:
    return ("mediaflow.worker", "--port", 0, "--slots", sessions(stage), "--lease-ttl", _ttl_s(stage))


@asynccontextmanager
async def _victim(stage: Stage, number: int) -> AsyncGenerator[Program]:
    """Give a worker that runs so many sessions."""
    async with stage.program(*_worker(stage), "--instance-id", _VICTIM) as victim:
        await fill(stage, await victim.ready(), number)
        yield victim


async def _moments(starts: Path, number: int) -> Sequence[int]:
    """Wait until so many sessions have started again."""
    try:
        async with asyncio.timeout(_DEADLINE_S):
            while True:
                moments_ns = read_moments(starts)
                if len(moments_ns) >= number:
                    return moments_ns
                await asyncio.sleep(0.02)
    except TimeoutError:
        found = len(read_moments(starts))
        raise Unfit(
            f"{found:,} of {number:,} sessions were running {_DEADLINE_S:g} s after the kill"
        ) from None


async def _figures(stage: Stage, took_s: Sequence[float], spent_s: float) -> dict[str, float]:
    return {
        "half": quantile(took_s, 0.5),
        "all": max(took_s),
        "longest script": await _longest_script_ms(stage),
        "CPU": 1e6 * spent_s / len(took_s),
    }


async def _watch_scripts(stage: Stage) -> None:
    await stage.redis.config_set("slowlog-log-slower-than", 500)
    await stage.redis.config_set("slowlog-max-len", 10_000)
    await stage.redis.slowlog_reset()


async def _longest_script_ms(stage: Stage) -> float:
    """Return the longest time that Redis served nobody else, as its slow log has it; it counts being preempted, too."""
    entries = await stage.redis.slowlog_get(10_000)
    return max((entry["duration"] for entry in entries), default=0) / 1000


TAKEOVER = Contest(
    name="takeover",
    title=(
        f"from the SIGKILL of a worker to its sessions running on {HEIRS} others, at a lease of {LEASE_TTL_S:g} s; "
        "CPU of all processes and Redis, a session"
    ),
    metrics=(
        Metric("half", "s", "lower"),
        Metric("all", "s", "lower"),
        Metric("longest script", "ms", "lower"),
        Metric("CPU", "µs", "lower"),
    ),
    ours=Contestant("watchdog and workers", _ours),
    others=(Contestant("the bare scripts, asked for by one loop", _bare, is_limit=True),),
    sizes=(1_000, 10_000),
    axis="sessions of the killed worker",
    deadline_s=180,
)
