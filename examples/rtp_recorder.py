"""Record RTP, live: a session opens a UDP port, publishes it, and writes down exactly what it hears.

All of it at once, with a sender and a worker that is killed in the midst of the call:

    python examples/rtp_demo.py

Or piece by piece; ``rtp_sender.py`` starts a call and speaks to whoever records it:

    cd examples && mediaflow up --app rtp_recorder:app
    python examples/rtp_sender.py --call call-42 speech.wav

The metadata of a call, all of them optional: ``ssrc`` and ``host``, from whom alone packets are taken; ``output``, a
file name; ``idle_s``, after how long a silence the call is over. A call is also over when its sender says so
(RTCP BYE, on the same port), and when it is ended by ``DELETE /calls/{callId}``.

The port stands in ``GET /calls/{callId}``, in the session's details, as ``rtp: {host, port, fence}``. After a
takeover it is another: a sender follows by looking there, and goes to the port with the highest fence.
``$RTP_HOST`` is the address to listen on, and to publish (127.0.0.1).

The recording appears in ``$RECORDER_OUT`` (./recordings), and beside it a JSON file of the same name that tells
where nobody listened, what was lost on the way, and who recorded what.

How it is exact. What is committed is committed as ``segments.py`` tells. RTP cannot be asked again for what a
killed owner had heard and not committed, nor for what was sent while nobody listened. But the sender's clock goes
on in its timestamps, so the next owner knows to the sample how much is missing, and leaves that much silence.

From whom. Without ``ssrc`` the first source whose packets arrive is the one that counts, until it is silent for two
seconds. RTP itself is not signed: keep the ports inside a network that you trust, or put SRTP in front.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import msgspec
import rtp
from rtp_tape import LiveManifest, LiveTape
from rtp_timeline import Door, Reception, Timeline
from segments import places, resumed

from mediaflow import MediaApp, Session

SEGMENT_S = 1
LINGER_S = 0.5
"""For packets that the sender's goodbye has overtaken."""

MAX_DATAGRAM = 4096
MAX_WAITING = 1000
"""Packets that wait while a segment is committed: 20 s of most senders. What does not fit is lost, and noted so."""

RECEIVE_BUFFER = 1 << 20

app = MediaApp()


class Order(msgspec.Struct, frozen=True):
    """The metadata of a call that is to be recorded."""

    ssrc: int | None = None
    host: str = ""
    output: str = ""
    idle_s: float = 30.0


Heard = rtp.Packet | frozenset[int]
"""A packet, or the SSRCs that said goodbye."""


class Line(asyncio.DatagramProtocol):
    """The session's end of the line: what its sender says, as it comes."""

    def __init__(self, door: Door, now_s: Callable[[], float]) -> None:
        self.heard = asyncio.Queue[Heard](MAX_WAITING)
        self.turned_away = 0
        self._door = door
        self._now_s = now_s

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """Take a datagram; whatever it is, it is no reason to fail."""
        heard = None if len(data) > MAX_DATAGRAM else self._understand(data, (addr[0], addr[1]))
        if heard is None or self.heard.full():
            self.turned_away += 1
        elif heard:
            self.heard.put_nowait(heard)

    def _understand(self, data: bytes, source: tuple[str, int]) -> Heard | None:
        if rtp.is_rtcp(data):
            return rtp.goodbyes(data) if self._door.knows(source) else None
        try:
            packet = rtp.parse(data)
        except ValueError:
            return None
        return packet if self._door.admits(source, packet.ssrc, self._now_s()) else None


@contextmanager
def udp_port(host: str) -> Generator[socket.socket]:
    """Open a UDP port that is free."""
    family, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        opened.bind(address)
        yield opened


class Recording:
    """From what is heard to the tape."""

    def __init__(self, tape: LiveTape) -> None:
        streams = tape.manifest.streams
        last = streams[-1].ssrc if streams else None
        self._reception = Reception(over={stream.ssrc for stream in streams} - {last})
        self._timeline = Timeline(streams, tape.manifest.next_sample)
        self._tape = tape
        self._speaker: int | None = None
        self._gone: set[int] = set()

    @property
    def goodbye(self) -> bool:
        """Whether who spoke last has taken leave."""
        return self._speaker in self._gone

    def hear(self, heard: Heard) -> None:
        """Take in what was heard."""
        if isinstance(heard, frozenset):
            self._gone |= heard
            return
        self._speaker = heard.ssrc
        self._place(self._reception.add(heard))

    async def keep(self) -> None:
        """Commit whole segments."""
        await self._tape.keep()

    async def finish(self, line: Line) -> None:
        """Commit all that was heard."""
        while not line.heard.empty():
            self.hear(line.heard.get_nowait())
        self._place(self._reception.flush())
        await self._tape.keep(to_the_end=True)

    def _place(self, packets: list[rtp.Packet]) -> None:
        for packet in packets:
            self._tape.add(self._timeline.place(packet), self._timeline.streams)


async def listen(line: Line, recording: Recording, idle_s: float) -> None:
    """Record until the sender takes leave, or is silent for so long that it must be gone."""
    while True:
        try:
            async with asyncio.timeout(LINGER_S if recording.goodbye else idle_s):
                heard = await line.heard.get()
        except TimeoutError:
            return
        recording.hear(heard)
        await recording.keep()


async def receive(session: Session, order: Order, tape: LiveTape) -> None:
    """Open a port, tell where it is, and record what comes in until the call is over, or ours no longer."""
    host = os.environ.get("RTP_HOST") or "127.0.0.1"
    loop = asyncio.get_running_loop()
    line = Line(Door(order.ssrc, order.host), loop.time)
    recording = Recording(tape)
    with udp_port(host) as opened:
        port = opened.getsockname()[1]
        transport, _ = await loop.create_datagram_endpoint(lambda: line, sock=opened)
        try:
            await session.publish(rtp={"host": host, "port": port, "fence": session.fence}, pid=os.getpid())
            session.log.info("listening", host=host, port=port, next_sample=tape.manifest.next_sample)
            await listen(line, recording, order.idle_s)
        except asyncio.CancelledError:
            if session.end_reason == "cancelled":
                tape.disown()
            if session.end_reason in {"cancelled", "drained"}:  # nobody else writes yet, or ever
                await recording.finish(line)
            raise
        finally:
            transport.close()
        await recording.finish(line)
    session.log.info("over", samples=tape.manifest.next_sample, turned_away=line.turned_away)


@app.session
async def record(session: Session) -> None:
    """Record one call; started again, here or elsewhere, it goes on with the call where that is by then."""
    order = msgspec.convert(session.metadata, Order)
    if not order.idle_s > 0:
        raise ValueError(f"idle_s = {order.idle_s}: give seconds above 0")
    folder, output = places(session.call_id, session.id, order.output)
    manifest = await asyncio.to_thread(resumed, LiveManifest, session.resume, folder, output)
    if manifest is None and session.resume is not None and output.exists():
        session.log.warning("committed files are gone; the recording that is there is left alone")
        return
    manifest = manifest or LiveManifest(rtp.RATE, 1, SEGMENT_S * rtp.RATE)
    tape = LiveTape(session, folder, output, manifest)
    if not manifest.joined:
        try:
            await receive(session, order, tape)
            await tape.join()
        except asyncio.CancelledError:
            if session.end_reason == "cancelled" and tape.is_newest():
                tape.disown()
                await tape.join()
                await tape.deliver()
            raise
    await tape.deliver()
    await session.publish(output=output.name, samples=tape.manifest.next_sample)


if __name__ == "__main__":
    app.run()
