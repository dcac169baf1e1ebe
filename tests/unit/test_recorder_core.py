"""The recorder's own promise, without Redis: each sample is in the recording once, whoever dies when."""

import array
import asyncio
import contextlib
import math
import wave
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest
import recorder
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer

RATE = 8000


class LeaseGoneError(Exception):
    """Stands for LeaseLost: the store took this owner's lease away."""


class Ledger:
    """What Redis holds for one session: the last checkpoint and the newest fence."""

    def __init__(self) -> None:
        self.saved: Any = None
        self.commits = 0
        self.fence = 100
        self.published: dict[str, Any] = {}


class FakeSession:
    """One owner's session; it dies at the n-th checkpoint, before or after that was applied."""

    def __init__(
        self, ledger: Ledger, metadata: dict[str, Any], *, dies_at: int = 0, applied: bool = True
    ) -> None:
        ledger.fence += 1
        self.ledger = ledger
        self.id = "0123456789ab-001-0123456789"
        self.call_id = "call-1"
        self.fence = ledger.fence
        self.metadata = metadata
        self.resume = ledger.saved
        self.end_reason: str | None = None
        self.log = structlog.get_logger()
        self._left = dies_at
        self._applied = applied

    def check(self) -> None:
        if self.fence < self.ledger.fence:
            raise LeaseGoneError

    async def checkpoint(self, state: Any) -> None:
        self._left -= 1
        if self._left == 0 and not self._applied:
            raise LeaseGoneError
        self.check()
        self.ledger.saved = msgspec.json.decode(msgspec.json.encode(state))
        self.ledger.commits += 1
        if self._left == 0:
            raise LeaseGoneError

    async def publish(self, **details: Any) -> None:
        self.ledger.published = details


def tone(path: Path, samples: int, channels: int = 1) -> bytes:
    values = (
        int(9000 * math.sin(i * (0.01 + 0.01 * channel) + i * i * 1e-7))
        for i in range(samples)
        for channel in range(channels)
    )
    data = array.array("h", values).tobytes()
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(data)
    return data


def samples_of(path: Path) -> bytes:
    with wave.open(str(path), "rb") as recorded:
        return recorded.readframes(recorded.getnframes())


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECORDER_OUT", str(tmp_path / "out"))
    return tmp_path / "out"


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("samples", [0, 1, RATE, 3 * RATE, 3 * RATE + 17])
async def test_a_recording_equals_its_source(tmp_path: Path, out: Path, samples: int, channels: int) -> None:
    data = tone(tmp_path / "in.wav", samples, channels)
    ledger = Ledger()
    await recorder.record(FakeSession(ledger, {"source": str(tmp_path / "in.wav"), "speed": 1000}))
    assert samples_of(out / "call-1.wav") == data
    assert sorted(p.name for p in out.iterdir()) == ["call-1.wav"], "parts were left behind"
    assert ledger.published == {"output": "call-1.wav", "samples": samples}


@pytest.mark.parametrize("applied", [True, False])
async def test_owners_killed_at_every_commit_lose_and_repeat_no_sample(
    tmp_path: Path, out: Path, applied: bool
) -> None:
    data = tone(tmp_path / "in.wav", 5 * RATE + 123)
    metadata = {"source": str(tmp_path / "in.wav"), "speed": 1000}
    for dies_at in range(1, 8):
        ledger = Ledger()
        (out / "call-1.wav").unlink(missing_ok=True)
        with pytest.raises(LeaseGoneError):
            await recorder.record(FakeSession(ledger, metadata, dies_at=dies_at, applied=applied))
        with contextlib.suppress(LeaseGoneError):  # none is left to commit when the first died at the last
            await recorder.record(FakeSession(ledger, metadata, dies_at=1, applied=False))
        await recorder.record(FakeSession(ledger, metadata))
        assert samples_of(out / "call-1.wav") == data, f"killed at commit {dies_at}"


@pytest.mark.parametrize(
    ("name", "codec"), [("in.mp3", "libmp3lame"), ("in.ogg", "libopus"), ("in.flac", "flac")]
)
async def test_a_compressed_source_is_resumed_at_the_very_sample(
    tmp_path: Path, out: Path, name: str, codec: str
) -> None:
    tone(tmp_path / "in.wav", 3 * RATE + 77)
    with av.open(str(tmp_path / "in.wav")) as wav, av.open(str(tmp_path / name), "w") as encoded:
        stream = encoded.add_stream(codec, rate=RATE)
        for frame in [*wav.decode(audio=0), None]:
            encoded.mux(stream.encode(frame))
    whole = recorder.Source(str(tmp_path / name)).read(60 * RATE)
    ledger = Ledger()
    metadata = {"source": str(tmp_path / name), "speed": 1000}
    for _ in range(2):
        with pytest.raises(LeaseGoneError):
            await recorder.record(FakeSession(ledger, metadata, dies_at=1))
    await recorder.record(FakeSession(ledger, metadata))
    assert samples_of(out / "call-1.wav") == whole


async def test_a_source_may_be_a_url(tmp_path: Path, out: Path) -> None:
    data = tone(tmp_path / "in.wav", 2 * RATE)
    application = web.Application()
    application.router.add_static("/", tmp_path)
    async with TestServer(application) as server:
        metadata = {"source": str(server.make_url("/in.wav")), "speed": 1000}
        await recorder.record(FakeSession(Ledger(), metadata))
    assert samples_of(out / "call-1.wav") == data


async def test_an_owner_that_was_paused_adds_nothing(tmp_path: Path, out: Path) -> None:
    data = tone(tmp_path / "in.wav", 4 * RATE)
    ledger = Ledger()
    metadata = {"source": str(tmp_path / "in.wav"), "speed": 20.0}
    old = asyncio.create_task(recorder.record(FakeSession(ledger, metadata)))
    async with asyncio.timeout(10):
        while ledger.commits < 2:
            await asyncio.sleep(0.001)
        await recorder.record(FakeSession(ledger, metadata | {"speed": 1000}))
        with pytest.raises((LeaseGoneError, FileNotFoundError)):
            await old
    assert samples_of(out / "call-1.wav") == data
    assert len(ledger.saved["takes"]) == 2


async def test_a_drained_owner_commits_what_was_heard_of_the_last_segment(tmp_path: Path, out: Path) -> None:
    data = tone(tmp_path / "in.wav", 3 * RATE)
    ledger = Ledger()
    metadata = {"source": str(tmp_path / "in.wav"), "speed": 2.0}
    session = FakeSession(ledger, metadata)
    task = asyncio.create_task(recorder.record(session))
    async with asyncio.timeout(10):
        while ledger.commits < 1:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)  # the fifth of a second that is heard of the second segment
        session.end_reason = "drained"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (take,) = ledger.saved["takes"]
    assert take[2] % RATE, "only whole segments were committed"
    await recorder.record(FakeSession(ledger, metadata | {"speed": 1000}))
    assert samples_of(out / "call-1.wav") == data


async def test_a_rollback_to_deleted_segments_records_again(tmp_path: Path, out: Path) -> None:
    data = tone(tmp_path / "in.wav", 3 * RATE)
    ledger = Ledger()
    metadata = {"source": str(tmp_path / "in.wav"), "speed": 1000}
    with pytest.raises(LeaseGoneError):
        await recorder.record(FakeSession(ledger, metadata, dies_at=2))
    snapshot = ledger.saved
    await recorder.record(FakeSession(ledger, metadata))
    ledger.saved = snapshot
    await recorder.record(FakeSession(ledger, metadata))
    assert samples_of(out / "call-1.wav") == data


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"source": "in.wav", "output": "../escape.wav"}, "plain file name"),
        ({"source": "in.wav", "speed": 0}, "speed above 0"),
        ({}, "source"),
    ],
)
async def test_metadata_that_cannot_be_recorded_are_refused(
    out: Path, metadata: dict[str, Any], error: str
) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError), match=error):
        await recorder.record(FakeSession(Ledger(), metadata))


async def test_a_source_without_audio_is_refused(tmp_path: Path, out: Path) -> None:
    (tmp_path / "in.txt").write_text("no media at all")
    with pytest.raises(Exception, match=r"in\.txt"):
        await recorder.record(FakeSession(Ledger(), {"source": str(tmp_path / "in.txt")}))
