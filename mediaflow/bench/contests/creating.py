"""The limit of short sessions: the script that makes one, asked for by redis-benchmark, with nothing else to do."""

from urllib.parse import urlsplit

from mediaflow import MediaApp, Session
from mediaflow.bench.contests.scripting import redis_benchmark
from mediaflow.bench.ours.wire import monitored
from mediaflow.bench.stage import Stage

_ANY = "__rand_int__"
_CALLS = 1_000_000_000
_CONNECTIONS = 50


async def create_script(stage: Stage) -> dict[str, float]:
    """Measure how many sessions Redis makes a second, each of another call."""
    app = MediaApp(redis=stage.redis_url, watchdog=False, log_level="error")
    session_id = ""

    @app.session
    async def nothing(session: Session) -> None:  # pyright: ignore[reportUnusedFunction]
        pass

    async def make() -> None:
        nonlocal session_id
        session_id = (await app.start_call(_ANY)).session_id

    async with app:
        await app.start_call("first")  # loads the script
        words = await monitored(stage.redis_url, make, having=_ANY.encode())
    *words, last = (word.replace(session_id.encode(), _ANY.encode()) for word in words)
    benchmark = await redis_benchmark(
        ("-p", str(urlsplit(stage.redis_url).port), "-c", str(_CONNECTIONS), "-r", str(_CALLS)),
        ("-n", str(stage.scaled(100_000, 5_000)), "--csv", "-x", *(word.decode() for word in words)),
        last,
    )
    return {"rate": float(benchmark["rps"])}
