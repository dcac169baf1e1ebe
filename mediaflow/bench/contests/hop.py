"""What the balancer costs: calls a second through it, beside a bare proxy in its place, and beside nothing at all."""

from contextlib import AsyncExitStack

from mediaflow.bench.contest import Contest, Contestant, Metric
from mediaflow.bench.contests.fleet import bare, fleet
from mediaflow.bench.stage import Stage, Unfit
from mediaflow.bench.tally import NOTHING

CONNECTIONS = 32
_SLOTS = 100_000


async def _load(stage: Stage, url: str) -> dict[str, float]:
    said = await stage.result(
        "mediaflow.bench.load",
        url,
        *("--play", "calls", "--connections", CONNECTIONS, "--seconds", stage.scaled(4.0, 0.5)),
    )
    if said["failed"]:
        raise Unfit(f"{said['failed']} of {said['requests']} calls were refused: {said['refusal']}")
    return {"rate": said["per_s"], "p99": said["p99_ms"]}


async def _balancer(stage: Stage) -> dict[str, float]:
    async with fleet(stage, 1, slots=_SLOTS, expected=0, kind=NOTHING) as running:
        return await _load(stage, running.url)


async def _proxy(stage: Stage) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(fleet(stage, 1, slots=_SLOTS, expected=0, kind=NOTHING))
        proxy = stage.program("mediaflow.bench.peers.bare_proxy", running.worker_urls[0])
        return await _load(stage, await (await stack.enter_async_context(proxy)).ready())


async def _proxy_alone(stage: Stage) -> dict[str, float]:
    async with bare(stage) as url:
        return await _load(stage, url)


async def _empty(stage: Stage) -> dict[str, float]:
    async with stage.program("mediaflow.bench.peers.bare_http") as server:
        return await _load(stage, await server.ready())


HOP = Contest(
    name="hop",
    title=f"calls through the balancer, {CONNECTIONS} connections, sessions that end at once",
    metrics=(Metric("rate", "/s", "higher"), Metric("p99", "ms", "lower")),
    ours=Contestant("balancer and worker", _balancer),
    others=(
        Contestant("bare aiohttp proxy and our worker", _proxy),
        Contestant("bare aiohttp proxy and empty handler", _proxy_alone, is_limit=True),
        Contestant("empty aiohttp handler", _empty, is_limit=True),
    ),
)
