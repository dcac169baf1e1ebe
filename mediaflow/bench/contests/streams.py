"""Streams: starts and heartbeats over HTTP, one process that serves, as many connections as the size says."""

from mediaflow.bench.contest import Contest, Contestant, Measure, Metric
from mediaflow.bench.contests.scripting import start_script
from mediaflow.bench.load import StreamPlayer
from mediaflow.bench.program import cpu_s
from mediaflow.bench.stage import Stage, Unfit

_METRICS = (
    Metric("requests", "/s", "higher"),
    Metric("p50", "ms", "lower"),
    Metric("p99", "ms", "lower"),
    Metric("CPU", "µs", "lower"),
    Metric("CPU of Redis", "µs", "lower"),
)


def _served(module: str, *arguments: object, **settings: str) -> Measure:
    """Return what measures a program that serves streams."""

    async def measure(stage: Stage) -> dict[str, float]:
        async with stage.program(module, *arguments, environment=settings) as server:
            url = await server.ready()
            server_s, redis_s = server.cpu_s(), cpu_s(stage.redis_pid)
            bounds = ("--seconds", 20, "--most", 500) if stage.quick else ("--seconds", 5)
            said = await stage.result(
                "mediaflow.bench.load", url, "--play", "streams", "--connections", stage.size, *bounds
            )
            if said["failed"]:
                raise Unfit(f"{said['failed']:,} of {said['requests']:,} were refused: {said['refusal']}")
            return {
                "requests": said["per_s"],
                "p50": said["p50_ms"],
                "p99": said["p99_ms"],
                "CPU": 1e6 * (server.cpu_s() - server_s) / said["asked"],
                "CPU of Redis": 1e6 * (cpu_s(stage.redis_pid) - redis_s) / said["asked"],
            }

    return measure


def _contest(name: str, title: str, ours: Measure, others: tuple[Contestant, ...]) -> Contest:
    return Contest(
        name=name,
        title=f"{title}; each stream is started and beats {StreamPlayer.BEATS} times",
        metrics=_METRICS,
        ours=Contestant("mediaflow.concurrency", ours),
        others=others,
        sizes=(32, 64),
        axis="connections",
    )


STREAMS = _contest(
    "streams",
    "counting streams over HTTP, without tokens",
    _served("mediaflow.concurrency", "--port", 0, MEDIAFLOW_STREAM_TOKENS="false"),
    (
        Contestant("aiohttp and an EVALSHA by hand", _served("mediaflow.bench.peers.handmade")),
        Contestant("limits behind aiohttp", _served("mediaflow.bench.peers.limits"), ("limits",)),
        Contestant("aiohttp, empty handler", _served("mediaflow.bench.peers.empty"), is_limit=True),
        Contestant("our start script, by redis-benchmark", start_script, is_limit=True),
    ),
)
SIGNED_STREAMS = _contest(
    "signed-streams",
    "counting streams over HTTP, with a signed token in each answer",
    _served("mediaflow.concurrency", "--port", 0),
    (
        Contestant(
            "aiohttp and an EVALSHA by hand, that signs", _served("mediaflow.bench.peers.handmade", "--sign")
        ),
    ),
)
