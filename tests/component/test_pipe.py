"""One connection for many requests: whose answer is whose, and what becomes of all when it breaks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import redis.asyncio as aioredis
from harness.waiting import eventually
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mediaflow.store import pipe as pipe_module
from mediaflow.store.pipe import Pipe

LONG_S = 30.0


class Counterpart:
    """A server that only writes down what it is asked, and answers when it is told to.

    Attributes:
        asked: What came, one word for each command.
        connections: How many there have been.
        port: Where it listens.
    """

    port: int

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.connections = 0
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writer = writer
        while line := await reader.readline():
            if line.startswith(b"$"):
                self.asked.append((await reader.readline()).strip())
        writer.close()

    def answer(self, *replies: bytes) -> None:
        assert self.writer is not None
        self.writer.write(b"".join(reply + b"\r\n" for reply in replies))

    def break_off(self) -> None:
        assert self.writer is not None
        self.writer.close()

    async def has_been_asked(self, *words: bytes) -> None:
        await eventually(lambda: self.asked == list(words), 5, about=f"asked {words}", every_s=0.001)

    async def connect(self) -> aioredis.Connection:
        connection = aioredis.Connection(port=self.port, protocol=2, redis_connect_func=lambda _: None)
        await connection.connect()
        return connection


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Counterpart]:
    made = Counterpart()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
async def counterpart():
    async with listening() as made:
        yield made


@pytest.fixture
async def open_pipe(counterpart):
    opened: list[Pipe] = []

    def make(silence_s: float = LONG_S, connect: Callable[[], Awaitable[object]] | None = None) -> Pipe:
        opened.append(Pipe(connect or counterpart.connect, silence_s))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


async def test_an_answer_that_nobody_waits_for_any_more_is_not_given_to_the_next(open_pipe, counterpart):
    pipe = open_pipe()
    async with asyncio.TaskGroup() as tasks:
        given_up = asyncio.ensure_future(pipe.ask([("one",)], LONG_S))
        patient = tasks.create_task(pipe.ask([("two",), ("three",)], LONG_S))
        await counterpart.has_been_asked(b"one", b"two", b"three")
        given_up.cancel()
        counterpart.answer(b"+1", b"+2", b"+3")
    assert patient.result() == [b"2", b"3"]
    assert given_up.cancelled()
    assert counterpart.connections == 1


async def test_a_request_that_is_past_its_deadline_fails_alone(open_pipe, counterpart):
    pipe = open_pipe()
    async with asyncio.TaskGroup() as tasks:
        patient = tasks.create_task(pipe.ask([("one",)], LONG_S))
        await counterpart.has_been_asked(b"one")
        with pytest.raises(RedisTimeoutError):
            await pipe.ask([("two",)], 0.02)
        counterpart.answer(b"+1", b"+2")
    assert patient.result() == [b"1"]
    third = asyncio.ensure_future(pipe.ask([("three",)], LONG_S))
    await counterpart.has_been_asked(b"one", b"two", b"three")
    counterpart.answer(b"+3")
    assert await third == [b"3"]


def test_a_request_whose_time_is_all_but_up_is_only_late_on_the_event_loop_of_our_programs():
    uvloop = pytest.importorskip("uvloop")

    async def ask_in_haste() -> None:
        async with listening() as counterpart:
            pipe = Pipe(counterpart.connect, LONG_S)
            patient = asyncio.ensure_future(pipe.ask([("one",)], LONG_S))
            await counterpart.has_been_asked(b"one")
            outcomes = await asyncio.gather(
                *(pipe.ask([(word,)], timeout_s) for word, timeout_s in (("two", 0.0001), ("three", -1.0))),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes] == [RedisTimeoutError, RedisTimeoutError]
            counterpart.answer(b"+1", b"+2", b"+3")
            assert await patient == [b"1"]
            pipe.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask_in_haste())


async def test_a_broken_connection_fails_all_that_is_on_its_way_and_the_next_request_opens_another(
    open_pipe, counterpart
):
    pipe = open_pipe()
    both = [asyncio.ensure_future(pipe.ask([(word,)], LONG_S)) for word in ("one", "two")]
    await counterpart.has_been_asked(b"one", b"two")
    counterpart.break_off()
    for outcome in await asyncio.gather(*both, return_exceptions=True):
        assert isinstance(outcome, RedisConnectionError)
    third = asyncio.ensure_future(pipe.ask([("three",)], LONG_S))
    await counterpart.has_been_asked(b"one", b"two", b"three")
    counterpart.answer(b"+3")
    assert await third == [b"3"]
    assert counterpart.connections == 2


async def test_a_server_that_stays_silent_is_given_up_with_all_that_waits_for_it(open_pipe, counterpart):
    pipe = open_pipe(silence_s=0.03)
    outcomes = await asyncio.gather(
        *(pipe.ask([(word,)], LONG_S) for word in ("one", "two")), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [RedisTimeoutError, RedisTimeoutError]
    with pytest.raises(RedisTimeoutError):
        await pipe.ask([("three",)], LONG_S)
    assert counterpart.connections == 2


async def test_a_primary_that_became_a_replica_is_left(open_pipe, counterpart):
    pipe = open_pipe()
    first = asyncio.ensure_future(pipe.ask([("one",)], LONG_S))
    await counterpart.has_been_asked(b"one")
    counterpart.answer(b"-READONLY You can't write against a read only replica.")
    assert isinstance((await first)[0], ReadOnlyError)
    second = asyncio.ensure_future(pipe.ask([("two",)], LONG_S))
    await counterpart.has_been_asked(b"one", b"two")
    counterpart.answer(b"+2")
    assert await second == [b"2"]
    assert counterpart.connections == 2


async def test_what_nobody_asked_for_ends_the_connection(open_pipe, counterpart):
    pipe = open_pipe()
    first = asyncio.ensure_future(pipe.ask([("one",)], LONG_S))
    await counterpart.has_been_asked(b"one")
    counterpart.answer(b"+1", b"+unasked")
    assert await first == [b"1"]
    second = asyncio.ensure_future(pipe.ask([("two",)], LONG_S))
    await counterpart.has_been_asked(b"one", b"two")
    counterpart.answer(b"+2")
    assert await second == [b"2"]
    assert counterpart.connections == 2


async def test_no_more_are_on_their_way_at_once_than_the_bound(open_pipe, counterpart, monkeypatch):
    monkeypatch.setattr(pipe_module, "MOST_IN_FLIGHT", 2)
    pipe = open_pipe()
    three = [asyncio.ensure_future(pipe.ask([(word,)], LONG_S)) for word in ("one", "two", "three")]
    await counterpart.has_been_asked(b"one", b"two")
    counterpart.answer(b"+1")
    await counterpart.has_been_asked(b"one", b"two", b"three")
    counterpart.answer(b"+2", b"+3")
    assert await asyncio.gather(*three) == [[b"1"], [b"2"], [b"3"]]


async def test_who_gives_up_while_connecting_leaves_it_to_the_others(open_pipe, counterpart):
    tries = 0
    connecting = asyncio.Event()

    async def connect() -> aioredis.Connection:
        nonlocal tries
        tries += 1
        connecting.set()
        if tries == 1:
            await asyncio.Event().wait()
        connection = aioredis.Connection(port=counterpart.port, protocol=2, redis_connect_func=lambda _: None)
        await connection.connect()
        return connection

    pipe = open_pipe(connect=connect)
    first = asyncio.ensure_future(pipe.ask([("one",)], LONG_S))
    await connecting.wait()
    second = asyncio.ensure_future(pipe.ask([("two",)], LONG_S))
    await asyncio.sleep(0)
    first.cancel()
    await counterpart.has_been_asked(b"two")
    counterpart.answer(b"+2")
    assert await second == [b"2"]
    assert first.cancelled()


async def test_a_connection_that_cannot_be_opened_fails_all_who_wait_for_it(open_pipe):
    tries = 0

    async def connect() -> object:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        raise RedisConnectionError("refused")

    pipe = open_pipe(connect=connect)
    outcomes = await asyncio.gather(
        *(pipe.ask([(word,)], LONG_S) for word in ("one", "two")), return_exceptions=True
    )
    assert [str(outcome) for outcome in outcomes] == ["refused", "refused"]
    assert tries == 1


async def test_what_cannot_be_written_is_refused_and_harms_nobody(open_pipe, counterpart):
    pipe = open_pipe()
    first = asyncio.ensure_future(pipe.ask([("one",)], LONG_S))
    await counterpart.has_been_asked(b"one")
    with pytest.raises(TypeError):
        await pipe.ask([("two", None)], LONG_S)
    counterpart.answer(b"+1")
    assert await first == [b"1"]
