"""The limit of the stream service: its start script, asked for by redis-benchmark."""

import asyncio
import csv
from urllib.parse import urlsplit

from mediaflow.bench.ours.wire import overhear
from mediaflow.bench.stage import Stage, Unfit

_ANY = b"__rand_int__"
_USERS = 1_000_000_000


async def start_script(stage: Stage) -> dict[str, float]:
    """Measure starts of streams, each of another user, over as many connections as the size says."""
    requests = await overhear(stage.redis_url)
    *words, last = (word.replace(requests.user, _ANY) for word in requests.start)
    benchmark = await redis_benchmark(
        ("-p", str(urlsplit(stage.redis_url).port), "-c", str(stage.size), "-r", str(_USERS)),
        ("-n", str(stage.scaled(200_000, 5_000)), "--csv", "-x", *(word.decode() for word in words)),
        last,
    )
    return {
        "requests": float(benchmark["rps"]),
        "p50": float(benchmark["p50_latency_ms"]),
        "p99": float(benchmark["p99_latency_ms"]),
    }


async def redis_benchmark(where: tuple[str, ...], what: tuple[str, ...], last: bytes) -> dict[str, str]:
    """Run redis-benchmark, its command's last word on stdin, and return what it tells.

    Raises:
        Unfit: It is not there, or tells nothing.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            "redis-benchmark", *where, *what, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise Unfit(f"redis-benchmark: {error.strerror}") from None
    try:
        said, _ = await process.communicate(last)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    rows = list(csv.DictReader(line for line in said.decode().splitlines() if line.startswith('"')))
    if not rows:
        raise Unfit("redis-benchmark told nothing")
    return rows[-1]
