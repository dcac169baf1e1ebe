"""What one client may take of a program: sizes, connections, and the time to send a request or take an answer."""

import asyncio
import json
import socket

import pytest
from harness.waiting import eventually
from harness.wire import answers, parse, send

from mediaflow.web import bodies, connections

pytestmark = pytest.mark.usefixtures("no_fault_logged")


async def connect(address: str, **options):
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port), **options)


async def all_of(reader, within_s: float = 10.0) -> bytes:
    async with asyncio.timeout(within_s):
        return await reader.read()


async def healthy(address: str) -> bool:
    found = await answers(
        address, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", silence_s=5
    )
    return [answer.status for answer in found] == [200]


@pytest.fixture
async def address(hosting_of):
    async with hosting_of("worker") as host:
        yield host.bound.address


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", "8190"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 9000 + b"\r\n\r\n", "8190"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", "headers"),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "Content-Length"),
        (b"hello\r\n\r\n", "HTTP"),
    ],
    ids=["line", "header", "headers", "length", "method"],
)
async def test_a_head_that_is_too_much_or_none_is_a_400_that_says_so_and_ends_the_connection(
    address, head, told
):
    reader, writer = await connect(address)
    writer.write(head)
    [answer] = parse(await all_of(reader))
    writer.close()
    assert answer.status == 400
    assert told.lower() in answer.problem["detail"].lower()
    assert len(answer.problem["detail"]) < 300


async def test_an_expectation_that_cannot_be_met_is_a_problem_too(address):
    [answer] = await answers(address, b"GET /calls HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n")
    assert answer.status == 417
    assert "tea" in answer.problem["detail"]


async def test_a_body_is_64_kib_at_most_packed_or_not(address):
    import gzip

    for body, header in (
        (b" " * 70_000, b""),
        (gzip.compress(b" " * 10_000_000), b"Content-Encoding: gzip\r\n"),
    ):
        head = b"POST /calls/a HTTP/1.1\r\nHost: x\r\n%bConnection: close\r\nContent-Length: %d\r\n\r\n" % (
            header,
            len(body),
        )
        [answer] = await answers(address, head + body, silence_s=5)
        assert answer.status == 413
        assert str(bodies.MAX_BODY_BYTES) in answer.problem["detail"]


async def test_who_leaves_in_the_middle_of_a_body_leaves_no_trace(address):
    for _ in range(20):
        await send(
            address, b"POST /calls/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", silence_s=0.01
        )
    assert await healthy(address)


async def test_headers_a_byte_at_a_time_are_cut_off(hosting_of, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.3)
    async with hosting_of("worker") as host:
        reader, writer = await connect(host.bound.address)
        receiving = asyncio.ensure_future(all_of(reader))
        for byte in b"GET /healthz HTTP/1.1\r\nA: " + b"b" * 1000:
            if receiving.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        [answer] = parse(await receiving)
        assert answer.status == 408
        assert "within 0.3 s" in answer.problem["detail"]
        writer.close()
        assert await healthy(host.bound.address)


async def test_a_slow_head_behind_a_good_request_is_cut_off_as_well(hosting_of, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.3)
    async with hosting_of("worker") as host:
        reader, writer = await connect(host.bound.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}")
        writer.write(b"GET /hea")
        [answer] = parse(await all_of(reader))
        assert answer.status == 408
        writer.close()


async def test_a_body_a_byte_at_a_time_is_cut_off(hosting_of, monkeypatch):
    monkeypatch.setattr(bodies, "READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr(connections, "LINGER_S", 0.1)
    async with hosting_of("worker") as host:
        reader, writer = await connect(host.bound.address)
        writer.write(b"POST /calls/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n")
        receiving = asyncio.ensure_future(reader.read(65536))
        while not receiving.done():
            writer.write(b" ")
            await asyncio.sleep(0.02)
        [answer] = parse(receiving.result())
        assert answer.status == 408
        assert "body" in answer.problem["detail"]
        writer.close()


async def asks_without_reading(address: str) -> None:
    """Ask and ask, until the other side has had enough."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    with socket.socket() as plug:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plug.setblocking(False)
        await loop.sock_connect(plug, (host, int(port)))
        async with asyncio.timeout(20):
            while True:
                await loop.sock_sendall(plug, b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                await asyncio.sleep(0.01)


async def test_who_does_not_read_the_answer_is_let_go(hosting_of, monkeypatch):
    monkeypatch.setattr(connections, "WRITE_TIMEOUT_S", 0.3)
    async with hosting_of("worker") as host:
        with pytest.raises(ConnectionError):
            await asks_without_reading(host.bound.address)
        assert await healthy(host.bound.address)


async def test_an_idle_connection_is_closed_in_the_end(hosting_of, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_TIMEOUT_S", 0.3)
    async with hosting_of("worker") as host:
        reader, writer = await connect(host.bound.address)
        assert await all_of(reader) == b""
        writer.close()
        reader, writer = await connect(host.bound.address)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        [answer] = parse(await all_of(reader))
        assert answer.status == 200
        writer.close()


async def test_connections_are_bounded_and_one_too_many_is_told_so(hosting_of, monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 5)
    async with hosting_of("worker") as host:
        held = [await connect(host.bound.address) for _ in range(5)]
        await asyncio.sleep(0.05)
        reader, writer = await connect(host.bound.address)
        [answer] = parse(await all_of(reader))
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert "5 connections" in answer.problem["detail"]
        writer.close()
        held.pop()[1].close()
        await eventually(lambda: healthy(host.bound.address), 10)
        for _, other in held:
            other.close()


def test_connections_never_take_the_file_descriptors_that_leases_are_renewed_with(monkeypatch):
    for descriptors, most in ((1024, 512), (1_000_000, 4096), (-1, 4096), (1, 1)):
        monkeypatch.setattr(connections.resource, "getrlimit", lambda _, found=descriptors: (found, found))
        assert connections.most_connections() == most


async def test_made_up_methods_are_one_row_of_metrics(address):
    for method in (b"PROPFIND", b"MKCOL", b"SOURCE", b"PURGE", b"M-SEARCH"):
        await answers(
            address, method + b" /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", silence_s=2
        )
    [metrics] = await answers(
        address, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", silence_s=5
    )
    rows = {
        line.split('method="')[1].split('"')[0]
        for line in metrics.body.decode().splitlines()
        if 'method="' in line
    }
    assert "other" in rows
    assert not rows & {"PROPFIND", "MKCOL", "SOURCE", "PURGE", "M-SEARCH"}


async def test_what_no_json_library_agrees_on_is_refused_or_taken_like_this(address):
    for body, status in (
        (b'{"a": 1, "a": 2}', 201),  # the last one counts
        (b'{"a": NaN}', 400),
        (b'{"a": Infinity}', 400),
        (b'{"a": 1e999}', 400),
        (b"[" * 60_000, 400),
        (b'{"a":' * 12_000 + b"1" + b"}" * 100, 400),
    ):
        head = b"POST /calls/%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        [answer] = await answers(address, head % (hash(body) % 10**9, len(body)) + body, silence_s=5)
        assert answer.status == status, body[:50]
        assert json.loads(answer.body)
