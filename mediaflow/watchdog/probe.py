"""Crash detection: one idle TCP connection to each instance, because a kernel tells of a death at once.

When a process dies, its host closes its sockets: our connection breaks, and a new one to the
same address is refused. That, and only that, is proof. A time-out, an unreachable host or a
connection that breaks and can be made again prove nothing: a network fault and a restarted
listener look the same. Nothing is ever sent, so it costs the instance one file descriptor.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

REACH_TIMEOUT_S = 1.0
RETRY_S = 1.0
SHORT_LIVED_S = 1.0
FIRST_PAUSE_S = 0.02


class NotReached(Exception):
    """No connection could be made."""


class NobodyListens(NotReached):
    """The host answers, and no process listens at the address."""


class Contact(Protocol):
    """One open connection; ``address`` is where it leads, with the name resolved."""

    @property
    def address(self) -> str:
        """Return ``ip:port``."""
        ...

    async def broken(self) -> None:
        """Return when the other side is gone."""
        ...

    def close(self) -> None:
        """Give the connection up."""
        ...


class Probe(Protocol):
    """How instances are reached; tests hand in another."""

    async def reach(self, address: str) -> Contact:
        """Connect to ``host:port``.

        Raises:
            NobodyListens: The connection was refused.
            NotReached: It could not be made for another reason.
        """
        ...


class TcpContact:
    """A TCP connection on which nothing is said."""

    def __init__(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address = address
        self._reader = reader
        self._writer = writer

    async def broken(self) -> None:
        """Return at the end of the stream or when the connection is reset."""
        try:
            while await self._reader.read(1024):
                pass
        except OSError:
            return

    def close(self) -> None:
        """Close without waiting for the other side."""
        self._writer.transport.abort()


class TcpProbe:
    """Reaches instances over TCP."""

    async def reach(self, address: str) -> TcpContact:
        """Connect to ``host:port``; see :class:`Probe`."""
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or not 0 < int(port) < 65536:  # the C library would take it modulo 65536
            raise NotReached(f"{address}: no such port")
        loop = asyncio.get_running_loop()
        errors: list[OSError] = []
        try:
            async with asyncio.timeout(REACH_TIMEOUT_S):
                found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
                for family, _type, _protocol, _name, place in found:
                    try:
                        return await self._connect(family, str(place[0]), int(place[1]))
                    except OSError as error:
                        errors.append(error)
        except (OSError, ValueError) as error:  # a time-out is an OSError
            raise NotReached(f"{address}: {error}") from error
        if errors and all(isinstance(error, ConnectionRefusedError) for error in errors):
            raise NobodyListens(address)
        raise NotReached(f"{address}: {errors}")

    async def _connect(self, family: int, host: str, port: int) -> TcpContact:
        reader, writer = await asyncio.open_connection(host, port, family=family)
        # A connection to a free port of this very host can be given that port as its own and meet itself.
        if writer.get_extra_info("sockname") == writer.get_extra_info("peername"):
            writer.transport.abort()
            raise ConnectionRefusedError
        return TcpContact(f"{host}:{port}", reader, writer)


async def attend(
    probe: Probe, address: str, *, on_reached: Callable[[], None], on_refused: Callable[[], None]
) -> None:
    """Stay connected to an address, until it was reached, the connection broke, and a new one was refused.

    Once a name was resolved and reached, only that address counts: of a host with several, another one
    may refuse because nobody ever listened there.

    Args:
        probe: How to connect.
        address: ``host:port``.
        on_reached: Called whenever a connection was made.
        on_refused: Called once, before the return.
    """
    loop = asyncio.get_running_loop()
    reached = False
    pause_s = 0.0
    while True:
        await asyncio.sleep(pause_s)
        try:
            contact = await probe.reach(address)
        except NobodyListens:
            if reached:
                on_refused()
                return
            pause_s = RETRY_S
            continue
        except NotReached:
            pause_s = RETRY_S
            continue
        reached = True
        address = contact.address
        on_reached()
        since_s = loop.time()
        try:
            await contact.broken()
        finally:
            contact.close()
        # A dying process can accept once more before its listener is closed; a proxy in front of nobody
        # does so for ever.
        short_lived = loop.time() - since_s < SHORT_LIVED_S
        pause_s = min(RETRY_S, max(FIRST_PAUSE_S, 2 * pause_s)) if short_lived else 0.0
