"""Requests that are answered the short way, and those that must not be."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import structlog
from aiohttp import web
from harness.surfaces import client_of, own_settings
from harness.waiting import eventually
from harness.wire import parse

from mediaflow.web import connections
from mediaflow.web.connections import HAS_SHORT_WAY, Door
from mediaflow.web.express import Answer
from mediaflow.web.surface import Route, Surface

SHORT, LONG = b"short", b"long"

pytestmark = pytest.mark.skipif(not HAS_SHORT_WAY, reason="the aiohttp that is installed goes the usual way")


class Echo:
    """Repeats bodies, the short way where it may; ``gate`` holds its answers back."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.done: list[bytes] = []

    def express(self, method, path, headers):
        if path != "/echo":
            return None

        async def errand(body: bytes) -> Answer:
            self.begun.set()
            await self.gate.wait()
            self.done.append(body)
            if body == b"break":
                raise RuntimeError("nobody foresaw this")
            extra = {"X-Told": body.decode()} if body.startswith(b"split") else {}
            return Answer(200, {"Way": "short", **extra}, SHORT + body)

        return errand

    async def handle(self, request):
        return web.Response(headers={"Way": "long"}, body=LONG + await request.read())


@asynccontextmanager
async def served(echo: Echo):
    face = Surface("echo", own_settings(), lambda: "", express=echo.express)
    about = {"method": "POST", "summary": "", "answers": {200: None}}
    face.add(
        Route(path="/echo", handler=echo.handle, **about), Route(path="/else", handler=echo.handle, **about)
    )
    async with client_of(face.application()) as client:
        yield client


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
async def line(echo):
    """A connection that aiohttp waits on."""
    async with served(echo) as client:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(request(b"", path=b"/else"))
        assert [one.headers["way"] for one in await read(reader, 1)] == ["long"]
        await asyncio.sleep(0.01)
        yield reader, writer
        writer.close()


def request(body: bytes, *lines: bytes, path: bytes = b"/echo", version: bytes = b"1.1") -> bytes:
    head = [b"POST " + path + b" HTTP/" + version, b"Host: x", b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join([*head, b"", body])


async def read(reader, number: int):
    received = b""
    async with asyncio.timeout(10):
        while len(found := parse(received)) < number:
            more = await reader.read(65_536)
            assert more, received
            received += more
    return found


async def test_a_request_that_came_whole_is_answered_the_short_way(line):
    reader, writer = line
    for body in (b"", b"one", b"x" * 60_000):
        writer.write(request(body))
        [answer] = await read(reader, 1)
        assert (answer.status, answer.headers["way"], answer.body) == (200, "short", SHORT + body)
        assert answer.headers["date"].endswith("GMT")


async def test_a_connection_outlives_the_time_for_a_head_while_its_requests_are_answered_and_after(
    line, echo, monkeypatch
):
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.1)
    reader, writer = line
    for number in (b"1", b"2"):
        echo.gate.clear()
        echo.begun.clear()
        writer.write(request(number))
        await echo.begun.wait()
        await asyncio.sleep(0.2)
        echo.gate.set()
        [answer] = await read(reader, 1)
        assert (answer.status, answer.headers["way"], answer.body) == (200, "short", SHORT + number)
        await asyncio.sleep(0.2)
    writer.write(request(b"")[:-5])
    [answer] = await read(reader, 1)
    assert answer.status == 408, "a head that is left unfinished is still waited for no longer than that"


@pytest.mark.parametrize(
    "lines",
    [
        (b"Connection: close",),
        (b"Expect: 100-continue",),
        (b"Upgrade: h2c", b"Connection: upgrade"),
    ],
)
async def test_what_is_not_plain_is_left_to_aiohttp(line, lines):
    reader, writer = line
    writer.write(request(b"", *lines))
    async with asyncio.timeout(10):
        received = await reader.readuntil(LONG)
    assert b"Way: long" in received


async def test_a_body_that_is_on_its_way_is_waited_for_within_its_bounds(line):
    reader, writer = line
    whole = request(b"12345")
    writer.write(whole[:-2])
    await writer.drain()
    await asyncio.sleep(0.02)
    writer.write(whole[-2:])
    [answer] = await read(reader, 1)
    assert (answer.headers["way"], answer.body) == ("long", LONG + b"12345")


async def test_an_older_http_is_left_to_aiohttp(line):
    reader, writer = line
    writer.write(request(b"", version=b"1.0"))
    async with asyncio.timeout(10):
        assert b"Way: long" in await reader.read()


async def test_answers_come_in_the_order_of_the_requests(echo, line):
    reader, writer = line
    echo.gate.clear()
    writer.write(request(b"first"))
    async with asyncio.timeout(10):
        await echo.begun.wait()
    writer.write(request(b"second") + request(b"", path=b"/else"))
    await writer.drain()
    await asyncio.sleep(0.02)
    assert echo.done == []
    echo.gate.set()
    found = await read(reader, 3)
    assert found[0].body == SHORT + b"first"
    assert found[1].body.endswith(b"second")
    assert found[2].headers["way"] == "long"
    # What followed was pipelined, and the one after it finds the short way again.
    writer.write(request(b"third"))
    assert [one.body[-5:] for one in await read(reader, 1)] == [b"third"]


async def test_who_leaves_at_once_is_heard_all_the_same(echo, line):
    _, writer = line
    echo.gate.clear()
    writer.write(request(b"stop"))
    async with asyncio.timeout(10):
        await echo.begun.wait()
    writer.close()
    await writer.wait_closed()
    echo.gate.set()
    async with asyncio.timeout(10):
        while echo.done != [b"stop"]:
            await asyncio.sleep(0)


async def test_a_server_that_ends_answers_what_is_under_way(echo):
    echo.gate.clear()
    async with served(echo) as client:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(request(b"", path=b"/else"))
        await read(reader, 1)
        await asyncio.sleep(0.01)
        writer.write(request(b"late"))
        async with asyncio.timeout(10):
            await echo.begun.wait()
        asyncio.get_running_loop().call_later(0.02, echo.gate.set)
    [answer] = await read(reader, 1)
    assert answer.body == SHORT + b"late"
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("body", [b"break", b"split\r\nX-Forged: yes"])
async def test_what_nobody_foresaw_is_a_problem_and_not_silence(line, body):
    reader, writer = line
    with structlog.testing.capture_logs() as logged:
        writer.write(request(body))
        [answer] = await read(reader, 1)
    assert answer.status == 500
    assert answer.problem["detail"].startswith("an unexpected error")
    assert "x-forged" not in answer.headers
    assert [(entry["method"], entry["path"]) for entry in logged] == [("POST", "/echo")]
    assert await reader.read() == b""


class Kept(asyncio.Transport):
    """Keeps what is written, and lets its protocol hear of more with the next turn of the event loop."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.answers: list[bytes] = []
        self.next: list[bytes] = []

    def set_write_buffer_limits(self, high=None, low=None):
        del high, low

    def write(self, data):
        self.answers.append(bytes(data))
        if self.next:
            asyncio.get_running_loop().call_soon(self.protocol.data_received, self.next.pop(0))

    def writelines(self, list_of_data):
        self.write(b"".join(list_of_data))

    def is_closing(self):
        return False

    def close(self):
        pass


async def test_a_client_that_asks_before_aiohttp_waits_for_it_is_answered_the_short_way_all_the_same(echo):
    server = web.Server(echo.handle)
    connection = Door(server, 1, echo.express)()
    transport = Kept(connection)
    transport.next = [request(b"two", path=b"/else"), request(b"three"), request(b"four")]
    connection.connection_made(transport)
    connection.data_received(request(b"one"))
    await eventually(lambda: len(transport.answers), 5, until=lambda count: count == 4)
    assert [parse(answer)[0].body for answer in transport.answers] == [
        b"shortone",
        b"longtwo",
        b"shortthree",
        b"shortfour",
    ]
    connection.connection_lost(None)


async def test_requests_that_come_in_one_piece_are_answered_in_order(echo):
    async with served(echo) as client:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(request(b"one") + request(b"two", path=b"/else") + request(b"three"))
        assert [one.body[-3:] for one in await read(reader, 3)] == [b"one", b"two", b"ree"]
        writer.close()
