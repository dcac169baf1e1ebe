"""Live calls on real processes: FFmpeg speaks RTP to a worker, the worker is killed, and the recording is exact.

With real telephone speech where Debian's asterisk-core-sounds-en-wav is installed, else on generated audio.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import av
import pytest
from harness.processes import ROOT, Fleet, Program
from harness.speech import generate, samples_of, telephone_speech
from harness.waiting import eventually

RATE = 8000
FRAME = 160
SECOND = 2 * RATE
STARTS_WITHIN_S = 20.0
ENDS_WITHIN_S = 60.0
ENOUGH = slice(10 * SECOND, 40 * SECOND)

pytestmark = [pytest.mark.redis, pytest.mark.slow]


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Some fifteen seconds."""
    found = [path for path in telephone_speech() if 12 * SECOND < path.stat().st_size < 16 * SECOND]
    return found[0] if found else generate(tmp_path / "speech.wav", 14.0123, seed=1)


def through_g711(path: Path, codec: str) -> bytes:
    """What is left of a file after a telephone line, by FFmpeg's own coder and decoder."""
    coder, decoder = av.CodecContext.create(codec, "w"), av.CodecContext.create(codec, "r")
    for one in (coder, decoder):
        one.sample_rate, one.layout, one.format = RATE, "mono", "s16"
    frame = av.AudioFrame(format="s16", layout="mono", samples=len(samples_of(path)) // 2)
    frame.sample_rate = RATE
    frame.planes[0].update(samples_of(path).ljust(frame.planes[0].buffer_size, b"\0"))
    coded = b"".join(bytes(packet) for packet in coder.encode(frame))
    return b"".join(bytes(plain.planes[0])[: 2 * plain.samples] for plain in decoder.decode(av.Packet(coded)))


class Line:
    """Workers that run examples/rtp_recorder.py, and the sender that calls them."""

    def __init__(self, fleet: Fleet, balancer: str, out: Path, client: aiohttp.ClientSession) -> None:
        self._fleet = fleet
        self._balancer = balancer
        self._client = client
        self.out = out
        self.workers: dict[str, Program] = {}

    async def add(self, *instance_ids: str) -> None:
        started = await self._fleet.workers(*instance_ids, slots=5, arguments=("--app", "rtp_recorder:app"))
        self.workers.update(zip(instance_ids, started, strict=True))

    async def call(self, speech: Path, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "examples" / "rtp_sender.py"),
            *("--url", self._balancer, "--call", "call-1", "--sequence", "65400"),
            *arguments,
            str(speech),
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def session(self) -> dict[str, Any]:
        async with self._client.get(f"{self._balancer}/calls/call-1") as answer:
            assert answer.status == 200, await answer.text()
            (session,) = (await answer.json())["sessions"]
            return session

    async def owner_that_wrote(self, not_by: str = "") -> str:
        """Wait for an owner that has written two segments of speech."""

        async def look() -> str:
            session = await self.session()
            assert session["state"] == "active", session
            assert session["owner"] != not_by
            folder = self.out / "call-1.wav.parts" / session["sessionId"]
            assert len(list(folder.glob(f"{session['fence']}-*.wav"))) >= 2
            return session["owner"]

        return await eventually(look, STARTS_WITHIN_S, about="an owner records")

    async def end(self) -> None:
        async with self._client.delete(f"{self._balancer}/calls/call-1") as answer:
            assert answer.status == 204

    @property
    def recording(self) -> bytes:
        return samples_of(self.out / "call-1.wav")

    @property
    def story(self) -> dict[str, Any]:
        return json.loads((self.out / "call-1.json").read_text())


@pytest.fixture
async def line(fleet: Fleet, http: aiohttp.ClientSession, tmp_path: Path) -> Line:
    out = tmp_path / "recordings"
    fleet.flags += ("--lease-ttl", "3")
    fleet.environ |= {
        "RECORDER_OUT": str(out),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")]),
    }
    balancer, _ = await asyncio.gather(fleet.balancer(), fleet.watchdog())
    return Line(fleet, balancer.url, out, http)


async def ended(sender: asyncio.subprocess.Process, status: int = 0) -> str:
    try:
        async with asyncio.timeout(ENDS_WITHIN_S):
            out, _ = await sender.communicate()
    finally:
        if sender.returncode is None:
            sender.kill()
            await sender.wait()
    assert sender.returncode == status, out.decode()
    return out.decode()


@pytest.mark.parametrize(("codec", "name"), [("pcmu", "pcm_mulaw"), ("pcma", "pcm_alaw")])
async def test_a_call_is_recorded_bit_for_bit_as_it_was_sent(
    speech: Path, line: Line, codec: str, name: str
) -> None:
    await line.add("one")
    await ended(await line.call(speech, "--codec", codec, "--speed", "4"))
    assert line.recording == through_g711(speech, name)
    assert line.story["gaps"] == []
    assert sorted(path.name for path in line.out.iterdir()) == ["call-1.json", "call-1.wav"]


async def test_the_sender_follows_a_takeover_and_only_what_nobody_heard_is_silent(
    speech: Path, line: Line
) -> None:
    await line.add("one", "two")
    sender = await line.call(speech)
    killed = await line.owner_that_wrote()
    line.workers[killed].kill()
    await line.owner_that_wrote(not_by=killed)
    printed = await ended(sender)
    assert printed.count("speaking to") == 2, printed
    sent, (gap,) = through_g711(speech, "pcm_mulaw"), line.story["gaps"]
    assert gap["why"] == "takeover"
    first, last = 2 * gap["start"], 2 * (gap["start"] + gap["samples"])
    assert line.recording == sent[:first] + bytes(last - first) + sent[last:]
    assert gap["start"] % RATE == 0, "what was committed was not kept"
    assert (last // 2) % FRAME == 0
    assert [take["start"] for take in line.story["takes"]] == [0, last // 2]


async def test_a_drained_owner_leaves_nothing_that_it_heard_behind(speech: Path, line: Line) -> None:
    await line.add("one", "two")
    sender = await line.call(speech)
    drained = await line.owner_that_wrote()
    line.workers[drained].terminate()
    assert await line.workers[drained].ended() == 0
    await ended(sender)
    sent, (gap,) = through_g711(speech, "pcm_mulaw"), line.story["gaps"]
    first, last = 2 * gap["start"], 2 * (gap["start"] + gap["samples"])
    assert line.recording == sent[:first] + bytes(last - first) + sent[last:]
    assert gap["start"] % FRAME == 0


async def test_a_paused_owner_that_wakes_up_beside_the_next_adds_nothing(speech: Path, line: Line) -> None:
    await line.add("one", "two")
    sender = await line.call(speech)
    paused = await line.owner_that_wrote()
    line.workers[paused].stop()
    await line.owner_that_wrote(not_by=paused)
    line.workers[paused].cont()
    await ended(sender)
    sent, (gap,) = through_g711(speech, "pcm_mulaw"), line.story["gaps"]
    first, last = 2 * gap["start"], 2 * (gap["start"] + gap["samples"])
    assert line.recording == sent[:first] + bytes(last - first) + sent[last:]


async def test_a_call_that_is_ended_by_request_is_kept_to_its_last_packet(speech: Path, line: Line) -> None:
    await line.add("one")
    sender = await line.call(speech)
    await line.owner_that_wrote()
    await line.end()
    assert "call-1 is cancelled" in await ended(sender, status=1)
    await eventually((line.out / "call-1.wav").exists, 10, about="the recording is delivered")
    recording = line.recording
    assert len(recording) >= 2 * SECOND
    assert recording == through_g711(speech, "pcm_mulaw")[: len(recording)]
    assert line.story["gaps"] == []
