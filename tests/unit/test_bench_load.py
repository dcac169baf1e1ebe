"""The load generator of the bench: what it sends, and what it takes for an answer."""

import asyncio
import itertools

import pytest

from mediaflow.bench.load import (
    CallPlayer,
    Connection,
    Player,
    Run,
    StreamPlayer,
    length_of,
    report,
    stream_id_of,
)


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.is_closed = True


def answer(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nDate: now\r\n\r\n%s" % (status, len(body), body)


def connected(run: Run, player: Player) -> tuple[Connection, FakeTransport]:
    connection, transport = Connection(player, run), FakeTransport()
    connection.connection_made(transport)
    return connection, transport


async def test_an_answer_that_comes_in_pieces_is_one_answer():
    run = Run(2)
    connection, transport = connected(run, Player(0))
    for byte in answer(b'{"ok":true}'):
        connection.data_received(bytes([byte]))
    assert run.statuses == {200: 1}
    assert len(transport.sent) == 2


async def test_no_more_than_was_wanted_is_sent_and_the_connection_ends():
    run = Run(1)
    connection, transport = connected(run, Player(0))
    connection.data_received(answer(b""))
    assert len(transport.sent) == 1
    assert transport.is_closed


async def test_a_refusal_is_counted_and_shown():
    run = Run(1)
    connection, _ = connected(run, Player(0))
    connection.data_received(answer(b"no room", 503))
    found = report(run, 2.0, 0.5)
    assert (found["failed"], found["refusal"]) == (1, "no room")
    assert (found["requests"], found["per_s"], found["cpu_share"]) == (1, 0.5, 0.25)


async def test_a_connection_that_the_server_closes_is_no_end_of_the_run_but_a_failure():
    run = Run(3)
    served, _ = connected(run, Player(0))
    cut_off, _ = connected(run, Player(1))
    cut_off.connection_lost(None)
    served.data_received(answer(b""))
    served.data_received(answer(b""))
    served.connection_lost(None)
    found = report(run, 1.0, 0.5)
    assert (found["requests"], found["failed"]) == (2, 1)
    assert "closed" in found["refusal"]


async def test_the_warm_up_does_not_count():
    run = Run(None)
    connection, _ = connected(run, Player(0))
    connection.data_received(answer(b""))
    run.begin()
    connection.data_received(answer(b""))
    run.over = True
    connection.data_received(answer(b""))
    assert len(run.latencies_ns) == 1


def test_a_stream_is_started_and_beats_under_the_id_it_was_given():
    player = StreamPlayer(3)
    start = player.next(b"")
    assert start.startswith(b"POST /v1/users/u3-0/streams HTTP/1.1\r\n")
    beats = [player.next(b'{"streamId": "abc.d-_"}') for _ in range(StreamPlayer.BEATS)]
    assert {beat.split(b" HTTP")[0] for beat in beats} == {b"PUT /v1/users/u3-0/streams/abc.d-_"}
    assert player.next(b"{}").startswith(b"POST /v1/users/u3-1/streams ")


def test_calls_of_all_connections_differ():
    players = [CallPlayer(0), CallPlayer(1)]
    lines = [player.next(b"").split(b"\r\n")[0] for player, _ in itertools.product(players, range(3))]
    assert len(set(lines)) == 6


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nDate: x", 12),
        (b"HTTP/1.1 200 OK\r\ncontent-length:7", 7),
        (b"HTTP/1.1 204 No Content\r\nDate: x", 0),
    ],
)
def test_the_head_tells_how_long_the_body_is(head: bytes, length: int):
    assert length_of(head) == length


def test_an_answer_of_unknown_length_is_an_error():
    with pytest.raises(ValueError, match="Content-Length"):
        length_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")


def test_an_answer_may_name_no_stream():
    assert not stream_id_of(b'{"title":"Conflict"}')
