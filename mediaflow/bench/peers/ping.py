"""The limit of whatever asks Redis once: a PING over one connection, by asyncio's own streams, one at a time."""

import asyncio
import os
import sys
import time
from urllib.parse import urlsplit

from mediaflow.bench.saying import run, say


async def _main(number: int, pause_s: float) -> None:
    address = urlsplit(os.environ["MEDIAFLOW_REDIS_URL"])
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    seconds: list[float] = []
    for _ in range(number):
        asked = time.monotonic()
        writer.write(b"*1\r\n$4\r\nPING\r\n")
        await reader.readline()
        seconds.append(time.monotonic() - asked)
        await asyncio.sleep(pause_s)
    writer.close()
    say(seconds=seconds)


if __name__ == "__main__":
    run(_main(int(sys.argv[1]), float(sys.argv[2])))
