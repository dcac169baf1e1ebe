"""A load generator for HTTP/1.1 that costs little: each connection asks again as soon as it was answered.

``python -m mediaflow.bench.load`` prints one line of JSON: what it measured, and what it cost itself. A closed loop, so
latency and throughput depend on each other; compare only runs of as many connections.
"""

import asyncio
import gc
import itertools
import time
from collections import Counter
from typing import Any

import click

from mediaflow.bench.figures import quantile
from mediaflow.bench.saying import run as run_on_uvloop
from mediaflow.bench.saying import say

WARM_UP_S = 0.5
DRAIN_S = 5.0
_HEAD_END = b"\r\n\r\n"


class Player:
    """What one connection asks for, request by request; this one asks for ``/`` again and again."""

    def __init__(self, number: int) -> None:
        """Name the connection."""
        self.number = number

    def next(self, answer: bytes) -> bytes:
        """Return the next request as it goes over the wire, given the last answer's body (first: empty)."""
        del answer
        return request("GET", "/")


class StreamPlayer(Player):
    """Starts a stream for a user of its own, beats for it ``BEATS`` times, and goes on as another user."""

    BEATS = 4
    """A request in five is a start: more than in life, where a stream beats a hundred times an hour."""

    def __init__(self, number: int) -> None:
        """Name the connection; no user of one is one of another."""
        super().__init__(number)
        self._rounds = itertools.count()
        self._beats_left = 0
        self._beat = b""

    def next(self, answer: bytes) -> bytes:
        """Start a stream, or beat for the one that the last start was answered with."""
        if self._beats_left == 0:
            self._beats_left = self.BEATS
            self._beat = b""
            self._user = f"u{self.number}-{next(self._rounds)}"
            body = b'{"deviceId":"tv","metadata":{"title":"film"}}'
            return request("POST", f"/v1/users/{self._user}/streams", body)
        self._beats_left -= 1
        if not self._beat:
            self._beat = request("PUT", f"/v1/users/{self._user}/streams/{stream_id_of(answer)}")
        return self._beat


class CallPlayer(Player):
    """Starts one call after the other, all of different ids."""

    _numbers = itertools.count()

    def next(self, answer: bytes) -> bytes:
        """Start the next call."""
        del answer
        return request("POST", f"/calls/bench-{next(self._numbers)}", b"{}")


PLAYERS: dict[str, type[Player]] = {"empty": Player, "streams": StreamPlayer, "calls": CallPlayer}


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """Return an HTTP/1.1 request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\n"
    if method != "GET":
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def stream_id_of(answer: bytes) -> str:
    """Return the ``streamId`` of an answer's body; empty if there is none."""
    at = answer.find(b'"streamId":')
    return answer[at + 11 :].split(b'"', 2)[1].decode() if at >= 0 else ""


def length_of(head: bytes) -> int:
    """Return the length of the body that a head announces.

    Raises:
        ValueError: It announces none: a chunked answer, which this generator cannot read.
    """
    at = head.lower().find(b"\r\ncontent-length:")
    if at < 0:
        if head[9:12] == b"204":
            return 0
        raise ValueError(f"an answer without Content-Length: {head[:200]!r}")
    return int(head[at + 17 :].split(b"\r\n", 1)[0])


def body_of(received: bytes) -> bytes | None:
    """Return the body of an answer; None if it is not whole yet. Raises as :func:`length_of`."""
    head_end = received.find(_HEAD_END)
    if head_end < 0:
        return None
    first = head_end + len(_HEAD_END)
    return None if len(received) - first < length_of(received[:head_end]) else received[first:]


class Run:
    """What all connections share: how many requests are still to be sent, and what came of those that were."""

    def __init__(self, most: int | None) -> None:
        """Bound the number of requests; None leaves the end to :attr:`over`."""
        self.left = most
        self.over = False
        self.counting = most is not None
        self.latencies_ns: list[int] = []
        self.asked = 0
        self.statuses: Counter[int] = Counter()
        self.lost = 0
        self.refusal = b""

    def may_send(self) -> bool:
        """Tell whether one more request is wanted, and count it."""
        if self.over or self.left == 0:
            return False
        if self.left is not None:
            self.left -= 1
        self.asked += 1
        return True

    def begin(self) -> None:
        """Forget the warm-up."""
        self.latencies_ns.clear()
        self.statuses.clear()
        self.counting = True

    def note(self, took_ns: int, status: int, answer: bytes) -> None:
        """Take in an answer."""
        if not self.counting or self.over:
            return
        self.latencies_ns.append(took_ns)
        self.statuses[status] += 1
        if status >= 300 and not self.refusal:
            self.refusal = answer[:300]

    def note_lost(self) -> None:
        """Take in that a connection ended while an answer was waited for; its player asks no more."""
        if not self.over:
            self.lost += 1
            self.refusal = self.refusal or b"the connection was closed without an answer"


class Connection(asyncio.Protocol):
    """One connection: a request under way at a time."""

    def __init__(self, player: Player, run: Run) -> None:
        self._player = player
        self._run = run
        self._received = b""
        self._sent_at_ns = 0
        self._is_asking = False
        self._transport: Any = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = transport
        self._send(b"")

    def data_received(self, data: bytes) -> None:
        """Take in an answer once it is whole, and ask again."""
        received = self._received = self._received + data if self._received else data
        body = body_of(received)
        if body is None:
            return
        now_ns = time.perf_counter_ns()
        self._received = b""
        self._is_asking = False
        self._run.note(now_ns - self._sent_at_ns, int(received[9:12]), body)
        self._send(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for the end."""
        if self._is_asking:
            self._run.note_lost()
        if not self.closed.done():
            self.closed.set_result(exc)

    def _send(self, answer: bytes) -> None:
        if not self._run.may_send():
            self._transport.close()
            return
        data = self._player.next(answer)
        self._sent_at_ns = time.perf_counter_ns()
        self._is_asking = True
        self._transport.write(data)


async def generate(
    host: str, port: int, *, connections: int, play: str, seconds: float, most: int | None = None
) -> dict[str, Any]:
    """Put load on a server.

    Args:
        host: Where it listens.
        port: Likewise.
        connections: How many ask at the same time.
        play: What they ask for: a key of :data:`PLAYERS`.
        seconds: How long, after a warm-up; with ``most``, at most.
        most: How many requests to send, all told, without a warm-up; None bounds them by time alone.

    Returns:
        ``requests, seconds, per_s, p50_ms, p99_ms``; ``failed``, those answered with no 2xx, or not at all because the
        connection was closed; ``refusal``, the first of them; ``asked``, all requests that were sent, and
        ``cpu_share``, what the load itself took of a core.
    """
    loop = asyncio.get_running_loop()
    run = Run(most)
    open_now: list[Connection] = []
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for number in range(connections):
        _, connection = await loop.create_connection(
            lambda number=number: Connection(PLAYERS[play](number), run), host, port
        )
        open_now.append(connection)
    if most is None:
        await asyncio.sleep(WARM_UP_S)
        run.begin()
        began_s, cpu_s = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        run.over = True
    else:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(connection.closed for connection in open_now))
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    await asyncio.wait([connection.closed for connection in open_now], timeout=DRAIN_S)
    return report(run, took_s, cpu_s)


def report(run: Run, took_s: float, cpu_s: float) -> dict[str, Any]:
    """Return what a run came to, as :func:`generate` does."""
    latencies_ms = [took_ns / 1e6 for took_ns in run.latencies_ns]
    return {
        "requests": len(latencies_ms),
        "seconds": took_s,
        "per_s": len(latencies_ms) / took_s,
        "p50_ms": quantile(latencies_ms, 0.5),
        "p99_ms": quantile(latencies_ms, 0.99),
        "asked": run.asked,
        "failed": run.lost + sum(count for status, count in run.statuses.items() if status >= 300),
        "refusal": run.refusal.decode(errors="replace"),
        "cpu_share": cpu_s / took_s,
    }


async def _main(url: str, *, connections: int, play: str, seconds: float, most: int | None) -> None:
    host, _, port = url.removeprefix("http://").rpartition(":")
    found = await generate(host, int(port), connections=connections, play=play, seconds=seconds, most=most)
    say(**found)


@click.command()
@click.argument("url")
@click.option("--play", type=click.Choice(list(PLAYERS)), default="empty")
@click.option("--connections", type=int, default=32)
@click.option("--seconds", type=float, default=5.0)
@click.option("--most", type=int, help="Send so many requests, and be done; --seconds is the deadline.")
def command(url: str, **wanted: Any) -> None:
    """Put load on the server at URL, and print what it measured."""
    gc.freeze()
    gc.disable()  # a pause of ours would be told as one of theirs
    run_on_uvloop(_main(url, **wanted))


if __name__ == "__main__":
    command()
