"""What listens where, as the kernel sees it: on loopback alone, unless people ask for more."""

import asyncio
import socket
from pathlib import Path

import pytest
from harness.ports import free_port
from harness.processes import Program

LISTEN = "0A"
PROGRAMS = ("worker", "loadbalancer", "watchdog", "concurrency")
pytestmark = pytest.mark.redis


def listening(pid: int) -> set[tuple[str, int]]:
    """Return the addresses at which a process listens, TCP over IPv4 and IPv6."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue  # closed meanwhile
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        path = Path(f"/proc/{pid}/net/{table}")
        for row in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = row.split()
            if fields[3] == LISTEN and fields[9] in inodes:
                found.add(_address(fields[1], family))
    return found


def _address(text: str, family: int) -> tuple[str, int]:
    packed, port = text.split(":")
    # Each word of 32 bits is written as the host has it in memory.
    words = [bytes.fromhex(packed[at : at + 8])[::-1] for at in range(0, len(packed), 8)]
    return socket.inet_ntop(family, b"".join(words)), int(port, 16)


@pytest.mark.slow
async def test_each_program_listens_on_one_port_of_loopback(fleet):
    programs = [fleet.start(name) for name in PROGRAMS]
    for program in programs:
        url = await program.ready()
        assert listening(program.pid) == {("127.0.0.1", int(url.rpartition(":")[2]))}, program.name


@pytest.mark.slow
async def test_other_addresses_are_listened_on_only_when_asked_for(fleet):
    program = fleet.start("loadbalancer", "--host", "0.0.0.0")
    url = await program.ready()
    assert listening(program.pid) == {("0.0.0.0", int(url.rpartition(":")[2]))}


@pytest.mark.slow
async def test_all_that_up_starts_listens_on_loopback_its_store_included(redis_server):
    del redis_server  # only to skip where there is none
    port = free_port()
    up = Program("mediaflow.cli", "up", "--workers", "2", "--port", str(port))
    try:
        async with asyncio.timeout(60):
            while not any("Ctrl-C" in line or "ready" in line for line in [*up.stdout, *up.stderr]):
                assert up.returncode is None, up.report()
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)
        found = {pid: listening(pid) for pid in descendants(up.pid)}
        hosts = {host for addresses in found.values() for host, _ in addresses}
        assert hosts == {"127.0.0.1"}, found
        assert sum(map(len, found.values())) == 6, (
            found
        )  # a store, a balancer, a watchdog, the streams, two workers
        assert ("127.0.0.1", port) in set().union(*found.values())
    finally:
        up.interrupt()
        await up.ended(30)


def descendants(pid: int) -> set[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found
