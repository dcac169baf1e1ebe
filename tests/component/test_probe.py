"""Crash detection over real sockets: what proves a death, and what does not."""

import asyncio
import contextlib

import pytest
from aiohttp import web
from harness.ports import free_port
from harness.puppets import running
from harness.waiting import eventually

from mediaflow.watchdog.probe import NobodyListens, NotReached, TcpProbe, attend


class Finding:
    """What an attended address told."""

    def __init__(self) -> None:
        self.reached = 0
        self.refused = 0

    def on_reached(self) -> None:
        self.reached += 1

    def on_refused(self) -> None:
        self.refused += 1


@contextlib.asynccontextmanager
async def listening(port: int = 0):
    """Listen, and on leaving end as a killed process does: connections and listener at once."""
    writers = []

    async def accept(_, writer):
        writers.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


async def attended(address: str, finding: Finding) -> None:
    await attend(TcpProbe(), address, on_reached=finding.on_reached, on_refused=finding.on_refused)


async def test_a_process_that_dies_is_found_dead_at_once_and_once():
    finding = Finding()
    async with asyncio.TaskGroup() as tasks:
        async with listening() as port:
            tasks.create_task(attended(f"127.0.0.1:{port}", finding))
            await eventually(lambda: finding.reached, 2)
        await eventually(lambda: finding.refused, 0.5)
    assert finding.refused == 1


async def test_a_name_is_reached_like_an_address():
    finding = Finding()
    async with asyncio.TaskGroup() as tasks:
        async with listening() as port:
            tasks.create_task(attended(f"localhost:{port}", finding))
            await eventually(lambda: finding.reached, 2)
        await eventually(lambda: finding.refused, 0.5)


async def test_a_listener_that_comes_back_at_once_is_not_a_death():
    finding = Finding()
    port = free_port()
    writers = []

    async def accept(_, writer):
        writers.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    async with server, running(attended(f"127.0.0.1:{port}", finding)):
        await eventually(lambda: len(writers) == 1, 2)
        writers[0].transport.abort()
        await eventually(lambda: finding.reached == 2, 1)
        await eventually(lambda: len(writers) == 2, 1)
        writers[1].transport.abort()  # from 3.12 on a server waits for its connections to be closed
    assert finding.refused == 0


async def test_an_address_at_which_nobody_ever_listened_is_no_death():
    finding = Finding()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.3):
            await attended(f"127.0.0.1:{free_port()}", finding)
    assert (finding.reached, finding.refused) == (0, 0)


@pytest.mark.parametrize(
    "address", ["no-such-host.invalid:80", "127.0.0.1:notaport", "", "[::1", "127.0.0.1:99999"]
)
async def test_what_cannot_be_an_address_is_not_reached_and_nothing_worse(address):
    with pytest.raises(NotReached) as failure:
        await TcpProbe().reach(address)
    assert not isinstance(failure.value, NobodyListens)


async def test_an_idle_connection_to_a_program_stays_open_until_the_program_ends():
    """The programs serve aiohttp, which closes connections after a while without requests."""
    runner = web.AppRunner(web.Application(), shutdown_timeout=0.1, keepalive_timeout=0.2)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    finding = Finding()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(attended(f"127.0.0.1:{port}", finding))
        await eventually(lambda: finding.reached >= 2, 3, about="closed for idling, and made again")
        assert finding.refused == 0
        await runner.cleanup()
        await eventually(lambda: finding.refused == 1, 2)
