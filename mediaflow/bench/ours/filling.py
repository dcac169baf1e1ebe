"""Fills Redis with streams: users with two each, that have beaten once; and says what Redis holds.

The service's own scripts, asked for in pipelines of a bounded length.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import hiredis

from mediaflow.bench.ours.wire import Requests, overhear
from mediaflow.bench.saying import say

STREAMS_EACH = 2
_AT_ONCE = 200


def packed(words: Iterable[bytes]) -> bytes:
    """Return a command as it goes over the wire."""
    words = list(words)
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def commands(requests: Requests, users: int) -> Iterator[list[bytes]]:
    """Give all that is asked for, user by user."""
    for user in range(users):
        for stream in range(STREAMS_EACH):
            yield requests.of(requests.start, user, stream)
        for stream in range(STREAMS_EACH):
            yield requests.of(requests.beat, user, stream)


def fill(url: str, asked: Iterator[list[bytes]]) -> None:
    """Ask for all of it.

    Raises:
        RuntimeError: Redis refused something.
    """
    address = urlsplit(url)
    reader = hiredis.Reader()
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        while some := [packed(words) for _, words in zip(range(_AT_ONCE), asked, strict=False)]:
            connection.sendall(b"".join(some))
            for _ in some:
                while (reply := reader.gets()) is False:
                    reader.feed(connection.recv(1 << 16))
                if isinstance(reply, Exception) or not _held(reply):
                    raise RuntimeError(f"refused: {reply!r:.300}")


def _held(reply: bytes) -> bool:
    return b"started" in reply or b"alive" in reply


if __name__ == "__main__":
    at = os.environ["MEDIAFLOW_REDIS_URL"]
    fill(at, commands(asyncio.run(overhear(at)), int(sys.argv[1])))
    say(streams=STREAMS_EACH * int(sys.argv[1]))
