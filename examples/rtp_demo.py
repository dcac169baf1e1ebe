"""A live call, recorded exactly though its worker is killed in the midst of it; everything on this machine.

    python examples/rtp_demo.py                          (--speech FILE, --out FOLDER)

It runs ``mediaflow up`` with two workers that record RTP and a private store, calls them as ``rtp_sender.py``
does, kills the one that records, and compares the recording with what was said, sample by sample. Exit status 1
if they differ anywhere but where nobody listened. It speaks a prompt of Debian's asterisk-core-sounds-en-wav
where that is installed, else it plays a melody.
"""

import argparse
import array
import asyncio
import contextlib
import math
import os
import re
import secrets
import signal
import sys
import tempfile
import wave
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import av
import msgspec
import rtp
from rtp_sender import CODECS, frames_of, send
from segments import SAMPLE_BYTES

PROMPTS = Path("/usr/share/asterisk/sounds")
PROMPT = "en*/demo-congrats.wav"
MELODY_S = 20
READY_WITHIN_S = 60.0
STOPS_WITHIN_S = 30.0
KILL_AFTER_S = 6.0
CODEC = "pcmu"


class Up:
    """``mediaflow up`` as a process, which tells what happens."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.pid = process.pid

    async def tell(self) -> None:
        """Print what it says, but not how else it could be used; returns when it has ended."""
        output = self._process.stdout
        assert output is not None
        url = ""
        while line := (await output.readline()).decode(errors="replace"):
            if re.match(r"\d\d:\d\d:\d\d ", line) and not self._process.returncode:
                print(f"  {line.rstrip()}", flush=True)
            if found := re.search(r"balancer ready at (\S+)", line):
                url = found[1]
            if line.startswith("Everything is ready") and not self._url.done():
                self._url.set_result(url)
        if not self._url.done():
            self._url.set_exception(SystemExit("mediaflow up ended before it was ready"))

    async def url(self) -> str:
        """Wait until everything is ready, and return the balancer's address."""
        async with asyncio.timeout(READY_WITHIN_S):
            return await self._url

    async def stop(self) -> None:
        """Stop everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(STOPS_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def running(out: Path) -> AsyncGenerator[Up]:
    """Run a balancer, a watchdog and two workers that record RTP, on a private store."""
    up = Up(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mediaflow", "up", "--port", "0", "--workers", "2"),
            *("--slots", "10", "--app", "rtp_recorder:app"),
            cwd=Path(__file__).parent,
            env={**os.environ, "RECORDER_OUT": str(out), "PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    )
    telling = asyncio.create_task(up.tell())
    try:
        yield up
    finally:
        await up.stop()
        await telling


async def kill_owner(url: str, call_id: str, up: Up) -> None:
    """Kill the worker that records the call, once it has recorded some of it."""
    await asyncio.sleep(KILL_AFTER_S)
    token = os.environ.get("MEDIAFLOW_API_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession(url, headers=headers) as client,
        client.get(f"/calls/{call_id}") as answer,
    ):
        (session,) = (await answer.json())["sessions"]
    details: dict[str, Any] = session["details"] or {}
    pid: int | None = details.get("pid")
    if session["state"] != "active" or pid is None:
        print("nobody records just now, so nobody is killed")
    elif pid == up.pid:
        print(
            "all workers live in one process here, so none is killed: install redis-server to see a takeover"
        )
    else:
        print(f"killing {session['owner']} (process {pid}), which records")
        os.kill(pid, signal.SIGKILL)


def melody(path: Path) -> Path:
    """Write some notes to listen to."""
    notes = [262, 330, 392, 523, 392, 330]
    samples = (
        int(9000 * math.sin(2 * math.pi * notes[i // 2000 % len(notes)] * i / rtp.RATE))
        for i in range(MELODY_S * rtp.RATE)
    )
    with wave.open(str(path), "wb") as out:
        out.setparams((1, SAMPLE_BYTES, rtp.RATE, 0, "NONE", ""))
        out.writeframes(array.array("h", samples).tobytes())
    return path


def on_the_line(speech: Path) -> bytes:
    """Return the samples of a file as they sound at the other end of a telephone line."""
    coder: Any = av.CodecContext.create(CODECS[CODEC], "w")
    coder.sample_rate, coder.layout, coder.format = rtp.RATE, "mono", "s16"
    coded = (packet for frame in frames_of(speech) for packet in coder.encode(frame))
    return rtp.decode(rtp.Packet(rtp.PCMU, 0, 0, 0, b"".join(map(bytes, coded))))


def compare(said: bytes, recording: Path) -> bool:
    """Tell how exact a recording is; True if it differs only where its gaps are, and is silent there."""
    with wave.open(str(recording), "rb") as file:
        heard = file.readframes(file.getnframes())
    expected = bytearray(said)
    gaps: list[dict[str, Any]] = msgspec.json.decode(recording.with_suffix(".json").read_bytes())["gaps"]
    for gap in gaps:
        start, samples = gap["start"], gap["samples"]
        expected[start * SAMPLE_BYTES : (start + samples) * SAMPLE_BYTES] = bytes(samples * SAMPLE_BYTES)
        at_s, lasts_s = start / rtp.RATE, samples / rtp.RATE
        print(f"  {lasts_s:.3f} s from {at_s:.3f} s on are silent: {gap['why']}")
    exact = heard == bytes(expected)
    print(f"  {len(heard) // SAMPLE_BYTES} samples recorded, {len(said) // SAMPLE_BYTES} said")
    print(f"  {'exact: every other sample is the one that was said' if exact else 'NOT EXACT'}")
    return exact


async def demo(speech: Path, out: Path) -> bool:
    """Record one call under a kill, and return whether the recording is exact."""
    call_id = f"demo-{secrets.token_hex(3)}"
    async with running(out) as up:
        url = await up.url()
        print(f"calling: {call_id} says {speech}")
        killing = asyncio.create_task(kill_owner(url, call_id, up))
        try:
            state = await send(url, call_id, speech, codec=CODEC)
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
        print(f"the call is {state}")
    recording = out / f"{call_id}.wav"
    print(f"{recording}, and beside it {recording.with_suffix('.json').name}")
    return state == "completed" and compare(on_the_line(speech), recording)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Record a live call exactly, though its worker is killed.")
    parser.add_argument("--speech", type=Path, metavar="FILE", help="what to say; 10 s at least")
    parser.add_argument("--out", type=Path, default=Path("recordings"), help="default: %(default)s")
    given = parser.parse_args()
    if given.speech is not None and not given.speech.is_file():
        parser.error(f"{given.speech} is no file: give one with audio in it")
    with tempfile.TemporaryDirectory() as scratch:
        speech = given.speech or next(PROMPTS.glob(PROMPT), None) or melody(Path(scratch) / "melody.wav")
        try:
            exact = asyncio.run(demo(speech, given.out.resolve()))
        except KeyboardInterrupt:
            sys.exit(130)
    sys.exit(0 if exact else 1)


if __name__ == "__main__":
    main()
