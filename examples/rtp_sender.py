"""Speak to whoever records a call: start it, stream a file to the port it publishes, and follow it when it moves.

    python examples/rtp_sender.py --call call-42 speech.wav         (--url http://127.0.0.1:8080, --codec pcma)

The RTP is FFmpeg's own, by way of PyAV (extra ``media``), at the pace at which it is heard. Nothing is sent twice:
what is sent while nobody listens is not heard. Any other sender can follow in the same way: by asking
``GET /calls/{callId}`` every now and then or, for many calls, when ``GET /events`` tells of a change.
"""

import argparse
import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

RATE = 8000
FRAME = 160
"""Samples in a packet: 20 ms."""

CODECS = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}
RTP_HEADER_BYTES = 12
LOOK_EVERY_S = 0.1
ANSWER_WITHIN_S = 10.0


class Port(NamedTuple):
    """Where an owner of the session listens."""

    fence: int
    host: str
    port: int


class Wire:
    """Takes RTP packets from FFmpeg as a file would, and sends each to the port that counts at that moment."""

    def __init__(self) -> None:
        self.port: Port | None = None
        self.connected = asyncio.Event()
        self.sent = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def write(self, packet: bytes) -> int:
        """Send a packet, and do not ask whether it arrives."""
        if self.port is not None:
            with suppress(
                OSError
            ):  # the socket's buffer is full, or nobody is there: it is lost, as on any network
                self._socket.sendto(packet, self.port[1:])
            self.sent += 1
        return len(packet)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Call:
    """The call at the balancer: started, looked at, followed."""

    def __init__(self, client: aiohttp.ClientSession, call_id: str, tell: Callable[[str], None]) -> None:
        self.call_id = call_id
        self._client = client
        self._tell = tell

    async def start(self, metadata: dict[str, Any]) -> None:
        """Start it; asked again, it is still one."""
        async with self._client.post(f"/calls/{self.call_id}", json=metadata) as answer:
            if answer.status not in {200, 201}:
                raise SystemExit(f"call {self.call_id} was refused: {answer.status} {await answer.text()}")

    async def look(self) -> dict[str, Any] | None:
        """Return the call as it is, None while nobody can say."""
        try:
            async with self._client.get(f"/calls/{self.call_id}") as answer:
                return await answer.json() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def follow(self, wire: Wire) -> str:
        """Point the wire at the newest port, until the call is over; return its state then."""
        while True:
            view = await self.look()
            if view is not None:
                if view["state"] not in {"active", "pending"}:
                    return view["state"]
                newest = max(ports_of(view), default=None)
                if newest is not None and (wire.port is None or newest.fence > wire.port.fence):
                    wire.port = newest
                    wire.connected.set()
                    self._tell(f"speaking to {newest.host}:{newest.port} (fence {newest.fence})")
            await asyncio.sleep(LOOK_EVERY_S)


def ports_of(view: dict[str, Any]) -> Iterator[Port]:
    """Give the ports that the owners of a call published."""
    for session in view["sessions"]:
        details: dict[str, Any] = session["details"] or {}
        if session["state"] == "active" and (rtp := details.get("rtp")):
            yield Port(rtp["fence"], rtp["host"], rtp["port"])


def frames_of(path: Path) -> Iterator[AudioFrame]:
    """Give the audio of a file as a telephone would send it: 20 ms at a time, 8000 samples a second, one channel."""
    resampler = AudioResampler(format="s16", layout="mono", rate=RATE, frame_size=FRAME)
    with av.open(str(path)) as file:
        if not file.streams.audio:
            raise SystemExit(f"{path} has no audio: give a file that has")
        for frame in [*file.decode(audio=0), None]:
            yield from resampler.resample(frame)


def rtp_muxer(wire: Wire, ssrc: int, sequence: int) -> Any:
    """Return FFmpeg's RTP muxer, writing to the wire; on close it sends a goodbye (RTCP BYE)."""
    options = {
        "packetsize": str(RTP_HEADER_BYTES + FRAME),
        "ssrc": str(ssrc),
        "seq": str(sequence),
        "rtpflags": "send_bye",
    }
    return av.open(wire, "w", format="rtp", options=options)


async def speak(
    frames: Iterator[AudioFrame], wire: Wire, muxer: AbstractContextManager[Any], codec: str, speed: float
) -> None:
    """Send frames at the pace at which they are heard, from when there is a port."""
    now_s = asyncio.get_running_loop().time
    samples = 0
    with muxer as container:
        stream = container.add_stream(CODECS[codec], rate=RATE, layout="mono")
        await wire.connected.wait()
        started_s = now_s()
        for frame in frames:
            frame.pts, frame.time_base = samples, Fraction(1, RATE)
            container.mux(stream.encode(frame))
            samples += frame.samples
            await asyncio.sleep(max(0.0, started_s + samples / RATE / speed - now_s()))
        container.mux(stream.encode(None))


async def send(
    url: str,
    call_id: str,
    path: Path,
    *,
    codec: str = "pcmu",
    speed: float = 1.0,
    sequence: int | None = None,
    tell: Callable[[str], None] = print,
) -> str:
    """Make a call that says what is in a file, and return the state in which it ended.

    Args:
        url: Of the balancer.
        call_id: The call to start.
        path: What to say; anything that PyAV decodes.
        codec: ``pcmu`` or ``pcma``.
        speed: Above 1, faster than real time.
        sequence: Of the first packet; any, if not given.
        tell: Is given a line about each thing that happens.
    """
    ssrc = (
        secrets.randbits(31) or 1
    )  # of 32 bits FFmpeg takes the highest by its sign or as it is, as its version goes
    token = os.environ.get("MEDIAFLOW_API_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
    wire = Wire()
    muxer = rtp_muxer(wire, ssrc, secrets.randbits(16) if sequence is None else sequence)
    try:
        async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as client:
            call = Call(client, call_id, tell)
            await call.start({"ssrc": ssrc})
            async with asyncio.TaskGroup() as tasks:
                speaking = tasks.create_task(speak(frames_of(path), wire, muxer, codec, speed))
                state = await call.follow(wire)
                if not speaking.done():
                    tell(f"call {call_id} is {state}: nobody listens any more")
                    speaking.cancel()
        return state
    finally:
        wire.close()


def main() -> None:
    """Send a file."""
    parser = argparse.ArgumentParser(description="Start a call and stream a file to whoever records it.")
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--url", default="http://127.0.0.1:8080", help="of the balancer; default: %(default)s"
    )
    parser.add_argument("--call", default="", metavar="CALL_ID", help="default: the file's name")
    parser.add_argument("--codec", choices=sorted(CODECS), default="pcmu")
    parser.add_argument("--speed", type=float, default=1.0, help="above 1, faster than real time")
    parser.add_argument("--sequence", type=int, metavar="N", help="of the first packet; default: any")
    given = parser.parse_args()
    if not given.file.is_file():
        parser.error(f"{given.file} is no file: give one with audio in it")
    if not given.speed > 0:
        parser.error(f"--speed {given.speed}: give a number above 0")
    try:
        state = asyncio.run(
            send(
                given.url,
                given.call or given.file.stem,
                given.file,
                codec=given.codec,
                speed=given.speed,
                sequence=given.sequence,
            )
        )
    except aiohttp.ClientConnectionError as error:
        sys.exit(f"nobody answers at {given.url} ({error}): start `mediaflow up`, or give another --url")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"call is {state}")
    sys.exit(0 if state == "completed" else 1)


if __name__ == "__main__":
    main()
