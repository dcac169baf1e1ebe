"""Bytes on a socket that no HTTP library would send, and what comes back read without believing it."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

ANSWER_WITHIN_S = 10.0
SILENCE_S = 0.05
"""What is not answered for as long waits for more bytes, as it may: how long it may is another test's matter."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> Any:
        """Return the problem details; fails if it is none, though the status says so."""
        assert self.headers.get("content-type") == "application/problem+json", self
        told = json.loads(self.body)
        assert told["status"] == self.status, self
        assert told["title"], self
        assert told["detail"], self
        return told


def parse(received: bytes) -> list[Answer]:
    """Return the whole answers in what came; a last one that is cut off, or goes on for ever, is left out."""
    answers: list[Answer] = []
    while received:
        head, blank, rest = received.partition(b"\r\n\r\n")
        if not blank:
            break
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ", 2)
        assert version.startswith("HTTP/"), first  # of which version, the other side repeats as it was asked
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if headers.get("transfer-encoding"):
            rest = b""
        elif len(rest) < length:
            break
        answers.append(Answer(int(status), headers, rest[:length]))
        received = rest[length:]
    return answers


async def send(address: str, sent: bytes, *, silence_s: float = SILENCE_S) -> bytes:
    """Send bytes, and return all that came before the other side closed or fell silent."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = bytearray()
    try:
        writer.write(sent)
        async with asyncio.timeout(ANSWER_WITHIN_S):
            while True:
                try:
                    async with asyncio.timeout(silence_s):
                        some = await reader.read(65536)
                except TimeoutError:
                    break
                if not some:
                    break
                received += some
    except ConnectionError:
        pass  # it closed with something of ours unread
    finally:
        writer.transport.abort()
    return bytes(received)


async def answers(address: str, sent: bytes, *, silence_s: float = SILENCE_S) -> list[Answer]:
    """Send bytes, and return the answers."""
    received = await send(address, sent, silence_s=silence_s)
    # What answers a HEAD tells the length of a body that is not there.
    return [] if b"HEAD " in sent else parse(received)


class Mischief:
    """Makes requests that are wrong in a way of their own; the same seed makes the same."""

    _METHODS = (
        "GET",
        "POST",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "HEAD",
        "TRACE",
        "CONNECT",
        "PRI",
        "get",
        "G\x00T",
    )
    _HEADERS = (
        "Authorization", "Idempotency-Key", "Content-Type", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade",
        "Connection", "Content-Encoding", "Last-Event-ID", "Mediaflow-Placement", "X-Terminate", "Host", "Cookie",
        "Accept-Encoding", "Range", "If-None-Match", "Origin", "X-\xff", "", " ", "A" * 300,
    )  # fmt: skip
    _VALUES = (
        "", " ", "0", "-1", "+1", "1_0", "0x10", "9" * 30, "1.5", "chunked", "chunked, chunked", "gzip",
        "gzip, chunked", "identity", "deflate", "br", "100-continue", "tea", "websocket", "h2c", "close",
        "keep-alive, Upgrade",
        "Bearer",
        "Bearer ", "Bearer \xff\xfe", "Basic YTpi", "slot", "\x00", "\t", "a" * 9000, "\x7f", "\x85", "*", "bytes=0-",
        "1700000000000-0-0", "99999999999999999999-0-0", "{", "application/json; charset=\xff",
    )  # fmt: skip
    _SEGMENTS = (
        "calls", "v1", "users", "streams", "limits", "stop", "events", "healthz", "readyz", "metrics", "instances",
        "history", "openapi.json", "docs", "console", ".well-known", "jwks.json", "a", "call-1", "..", ".", "", "%00",
        "%", "%zz", "%FF", "%C3%A9", "\xc3\xa9", "\xff", "%2F", "%252F", "%F0%9F%98%80", "%ED%A0%80", "a" * 129,
        "~" * 4000, "\x01", " ", "{x}", "a|b", "a\\b", "*",
    )  # fmt: skip
    _QUERIES = (
        "", "?", "?state=active", "?state=%FF", "?limit=%D9%A3", "?limit=1e3", "?limit=" + "9" * 5000, "?cursor=!!",
        "?cursor=MC9h", "?cursor=OTk5L2E", "?cursor=w6k", "?a=1&a=2&&&;", "?" + "x=y&" * 1500, "?\xff", "?%",
        "#fragment",
    )  # fmt: skip
    _BODIES = (
        b"", b"{}", b"[]", b"null", b"NaN", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": -0}', b"{" * 5000, b"[" * 60000,
        b'{"a":' * 20000, b'{"a": 1, "a": 2}', b'{"a": ' + b"9" * 60000 + b"}", b'{"a": "\xff"}', b'{"a": "\\ud800"}',
        b'{"\\u0000": "\\u0000"}', b"\xef\xbb\xbf{}", b"\x00" * 100, b"x" * 70000, b'{"deviceId": ""}',
        b'{"deviceId": 7}', b'{"deviceId": "tv", "metadata": 5}', b'{"deviceId": "tv", "replaces": "x"}',
        b'{"deviceId": "tv", "terminate": [null]}', b'{"deviceId": "tv", "onLimit": "?"}', b'{"limit": -1}',
        b'{"limit": 1e400}', b'{"limit": ' + b"1" * 400 + b"}", b"\x1f\x8b\x08\x00junk", b'{"deviceId": "\\u0000"}',
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def request(self) -> bytes:
        """Return the bytes of one connection."""
        kind: Callable[[], bytes] = self._random.choice(
            (
                self._odd,
                self._odd,
                self._odd,
                self._mutated,
                self._mutated,
                self._chunked,
                self._pipelined,
                self._noise,
            )
        )
        return kind()

    def _choose(self, from_: Sequence[Any]) -> Any:
        return self._random.choice(from_)

    def _target(self) -> str:
        path = "/" + "/".join(self._choose(self._SEGMENTS) for _ in range(self._random.randint(0, 6)))
        if self._random.random() < 0.5:
            path = self._choose(
                ("/calls/{}", "/calls/{}/history", "/v1/users/{}/streams", "/v1/users/{}/limits",
                 "/v1/users/a/streams/{}", "/v1/users/a/streams/{}/stop")
            ).format(self._choose(self._SEGMENTS))  # fmt: skip
        target = path + self._choose(self._QUERIES)
        return self._choose(
            (target, target, target, target, "http://[::1" + target, "//" + target, "*", "", "http://a:b/")
        )

    def _head(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], version: str = "HTTP/1.1"
    ) -> bytes:
        lines = [f"{method} {target} {version}", "Host: x", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _some_headers(self) -> list[tuple[str, str]]:
        number = self._choose((0, 0, 1, 1, 2, 5, 200))
        return [(self._choose(self._HEADERS), self._choose(self._VALUES)) for _ in range(number)]

    def _odd(self) -> bytes:
        """A request whose parts are odd each for itself, with a body of its length, or nearly."""
        body = self._choose(self._BODIES)
        length = len(body) + self._choose((0, 0, 0, 0, -1, 1, 100000))
        headers = [*self._some_headers(), ("Content-Length", str(length))]
        version = self._choose(
            ("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9", "", "x")
        )
        return self._head(self._choose(self._METHODS), self._target(), headers, version) + body

    def _mutated(self) -> bytes:
        """A good request with some bytes changed, left out or repeated."""
        good = bytearray(
            self._head("POST", "/calls/call-1", [("Idempotency-Key", "k"), ("Content-Length", "10")])
            + b'{"room":7}'
        )
        for _ in range(self._random.randint(1, 6)):
            at = self._random.randrange(len(good))
            match self._random.randrange(4):
                case 0:
                    good[at] = self._random.randrange(256)
                case 1:
                    del good[at : at + self._random.randint(1, 8)]
                case 2:
                    good[at:at] = bytes([self._random.randrange(256)]) * self._choose((1, 2, 9000))
                case _:
                    good[at:at] = good[: self._random.randrange(60)]
            if not good:
                return b"\n"
        return bytes(good)

    def _chunked(self) -> bytes:
        size = self._choose(
            (
                b"5",
                b"0",
                b"-1",
                b"FFFFFFFFFFFFFFFFFF",
                b"5;" + b"x" * 9000,
                b" 5",
                b"0x5",
                b"",
                b"g",
                b"5\x00",
            )
        )
        chunk = size + self._choose((b"\r\n", b"\n", b"\r")) + b"hello" + self._choose((b"\r\n", b"", b"\n"))
        end = self._choose(
            (b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"0\r\n" + b"A: b\r\n" * 300 + b"\r\n", b"")
        )
        encoding = self._choose(
            ("chunked", "Chunked", "chunked ", "\x0bchunked", "xchunked", "gzip, chunked")
        )
        headers = [("Transfer-Encoding", encoding), *self._some_headers()]
        return self._head("POST", self._target(), headers) + chunk * self._choose((1, 1, 20000)) + end

    def _pipelined(self) -> bytes:
        good = self._head(
            "GET", self._choose(("/healthz", "/calls", "/calls/a", "/nothing", "/openapi.json")), []
        )
        parts = [self._choose((good, good, good, self._mutated())) for _ in range(self._choose((2, 20, 300)))]
        return b"".join(parts)

    def _noise(self) -> bytes:
        return self._choose((
            lambda: self._random.randbytes(self._random.randint(1, 5000)),
            lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self._random.randbytes(500),  # TLS
            lambda: b"*1\r\n$4\r\nPING\r\n",  # Redis
            lambda: b"GET /healthz\r\n",
            lambda: b"\r\n" * 5000,
            lambda: b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            lambda: b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 100_000,
            lambda: b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 20_000 + b"\r\n",
            lambda: b"GET / HTTP/1.1\r\n folded: header\r\n\r\n",
        ))()  # fmt: skip


async def assault(address: str, seed: int, requests: int, *, at_once: int = 8) -> int:
    """Send so much mischief; fails on an answer that is a fault of ours. Return how many answers there were."""
    mischief = Mischief(seed)
    turnstile = asyncio.Semaphore(at_once)
    seen = 0

    async def one(sent: bytes) -> None:
        nonlocal seen
        async with turnstile:
            for answer in await answers(address, sent):
                seen += 1
                assert answer.status < 500 or answer.status == 503, (sent[:2000], answer)
                if answer.status >= 400:
                    assert "Traceback" not in answer.problem["detail"], (sent[:2000], answer)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(requests):
            tasks.create_task(one(mischief.request()))
    return seen
