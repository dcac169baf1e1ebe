"""What our stream service asks of Redis, word by word, so that it can be asked again without the service."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from mediaflow.limiter import StreamLimiter
from mediaflow.limiter.stream_id import unverified
from mediaflow.store import StoreError

_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)", re.DOTALL)
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
_QUIET_S = 0.2


class Requests(NamedTuple):
    """The words of a start and of a heartbeat, and what in them stands for the user and for the stream."""

    start: list[bytes]
    beat: list[bytes]
    user: bytes
    stream: bytes

    def of(self, words: list[bytes], user: int, stream: int) -> list[bytes]:
        """Return the words for another user and another of its streams, as long as they were."""
        user_mark = b"%0*d" % (len(self.user), user)
        stream_mark = b"%0*d" % (len(self.stream), stream)
        return [word.replace(self.user, user_mark).replace(self.stream, stream_mark) for word in words]


async def overhear(url: str) -> Requests:
    """Return what a limiter asks of the Redis at ``url``.

    Raises:
        StoreError: It asks something else than a script on the keys of a user.
    """
    async with StreamLimiter(redis=url, log_level="error") as limiter:
        await limiter.heartbeat("first", (await limiter.start("first", "tv")).stream_id)  # loads the scripts
        started = None

        async def start() -> None:
            nonlocal started
            started = await limiter.start("other", "tv", {"title": "film"})

        start_words = await monitored(url, start)
        assert started is not None
        stream_id = started.stream_id
        beat_words = await monitored(url, lambda: limiter.heartbeat("other", stream_id))
    facts = unverified(stream_id)
    tag = re.search(rb"\{u([0-9a-f]+)\}", start_words[3])
    if facts is None or tag is None:
        raise StoreError(f"nothing of a user or a stream in {start_words!r:.300}")
    return Requests(start_words, beat_words, tag[1], facts.key.encode())


async def monitored(url: str, ask: Callable[[], Awaitable[object]], *, having: bytes = b"") -> list[bytes]:
    """Return the words of the first script that ``ask`` had run, and of which a word has ``having`` in it.

    Raises:
        StoreError: It had none run.
    """
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=1 << 24)
    writer.write(b"MONITOR\r\n")
    await reader.readline()
    try:
        await ask()
        while True:
            async with asyncio.timeout(_QUIET_S):
                words = words_of(await reader.readline())
            if words and words[0].upper() == b"EVALSHA" and any(having in word for word in words):
                return words
    except TimeoutError:
        raise StoreError("no script was asked for") from None
    finally:
        writer.close()


def words_of(line: bytes) -> list[bytes]:
    """Return the words of a command as MONITOR tells it."""
    return [_ESCAPE.sub(_unescaped, word) for word in _WORD.findall(line)]


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return bytes([int(code[1:], 16)]) if len(code) == 3 else _PLAIN.get(code, code)
