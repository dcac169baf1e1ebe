"""Our programs, as a user runs them: balancer, watchdog and workers, each a process on a free port."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import ClientSession

from mediaflow.bench.program import Program
from mediaflow.bench.stage import Stage, Unfit

_APP = "mediaflow.bench.ours.app:app"
_KNOWN_WITHIN_S = 30.0
_LOOK_EACH_S = 0.02


class Fleet(NamedTuple):
    """Processes that serve; ``url`` is the balancer's, ``worker_urls`` are the workers' own."""

    url: str
    balancer: Program
    workers: tuple[Program, ...]
    worker_urls: tuple[str, ...]


@asynccontextmanager
async def fleet(
    stage: Stage, workers: int, *, slots: int, expected: int, kind: str, watchdog: bool = False
) -> AsyncGenerator[Fleet]:
    """Run a balancer and workers, all of them ready."""
    async with AsyncExitStack() as stack:
        balancer = await stack.enter_async_context(stage.program("mediaflow.loadbalancer", "--port", 0))
        programs = [balancer]
        if watchdog:
            programs.append(await stack.enter_async_context(stage.program("mediaflow.watchdog", "--port", 0)))
        for number in range(workers):
            one = worker(stage, f"worker-{number}", slots=slots, expected=expected, kind=kind)
            programs.append(await stack.enter_async_context(one))
        urls = await asyncio.gather(*(program.ready() for program in programs))
        await known(urls[0], workers)
        yield Fleet(urls[0], balancer, tuple(programs[-workers:]), tuple(urls[-workers:]))


def worker(stage: Stage, name: str, *, slots: int, expected: int, kind: str):  # noqa: ANN201 - a context of a program
    """Run a worker; it is not ready yet."""
    return stage.program(
        "mediaflow.worker",
        *("--app", _APP, "--port", 0, "--slots", slots, "--instance-id", name),
        environment={"BENCH_EXPECTED": str(expected), "BENCH_KIND": kind},
    )


async def calls(
    stage: Stage, url: str, number: int, *, at_once: int = 1, pause_s: float = 0.0
) -> dict[str, Any]:
    """Post calls, and return what the caller says; see :mod:`mediaflow.bench.ours.caller`.

    Raises:
        Unfit: Not all were accepted.
    """
    said = await stage.result("mediaflow.bench.ours.caller", url, number, at_once, pause_s)
    if refusals := said["refusals"]:
        raise Unfit(f"{len(refusals)} of {number} calls were refused: {refusals[0]}")
    return said


async def known(url: str, workers: int) -> None:
    """Wait until the balancer has heard of so many workers that are ready.

    Raises:
        Unfit: It has not in time.
    """
    found = 0
    try:
        async with asyncio.timeout(_KNOWN_WITHIN_S), ClientSession() as http:
            while True:
                async with http.get(f"{url}/instances") as response:
                    told: dict[str, Any] = await response.json(content_type=None)
                found = sum(one["state"] == "ready" for one in told.get("instances", ()))
                if found >= workers:
                    return
                await asyncio.sleep(_LOOK_EACH_S)
    except TimeoutError:
        raise Unfit(f"the balancer knew {found} of {workers} workers after {_KNOWN_WITHIN_S:g} s") from None


@asynccontextmanager
async def bare(stage: Stage) -> AsyncGenerator[str]:
    """Run the limit of it: an empty handler behind a bare proxy, whose address is given."""
    async with (
        stage.program("mediaflow.bench.peers.bare_http") as server,
        stage.program("mediaflow.bench.peers.bare_proxy", await server.ready()) as proxy,
    ):
        yield await proxy.ready()
