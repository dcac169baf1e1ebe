"""Record calls exactly, whatever happens to the workers that record them.

Start it as a program of its own, or let the worker import it:

    python examples/recorder.py                                     (settings: MEDIAFLOW_* or a file)
    cd examples && python -m mediaflow.worker --slots 10 --app recorder:app
    curl -X POST localhost:8080/calls/call-42 -d '{"source": "/srv/speech.wav"}'

The call's metadata name a ``source`` (a file or URL that PyAV can decode), optionally an ``output`` file
name and a ``speed`` (1 is real time). The recording appears in ``$RECORDER_OUT`` (./recordings).

How it is exact. Several owners may run one session for a while, and any may be killed at any moment.
So nothing counts but what the *checkpoint* names, and Redis takes a checkpoint only from the newest
owner. A segment is written and synced first, under a name that no other owner uses; then the checkpoint
commits it. The next owner decodes again and drops exactly the samples that are committed.

Not for live sources: a source has to give the same samples each time it is opened. And whoever may start
calls may name any file that the worker can read: check ``source`` before you use this in earnest.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import msgspec
from av.audio.resampler import AudioResampler

from mediaflow import MediaApp, Session

SEGMENT_S = 1
SAMPLE_BYTES = 2

app = MediaApp()


class Order(msgspec.Struct, frozen=True):
    """The metadata of a call that is to be recorded."""

    source: str
    output: str = ""
    speed: float = 1.0


class Take(msgspec.Struct, frozen=True, array_like=True):
    """Committed segments of one owner: samples ``start`` to ``stop``, cut every ``Manifest.step`` samples."""

    name: str
    start: int
    stop: int


class Manifest(msgspec.Struct, frozen=True):
    """The checkpoint: all that is committed.

    One entry for each owner, not for each segment, so 64 KiB are enough for a thousand owners.
    """

    rate: int
    channels: int
    step: int
    takes: tuple[Take, ...] = ()
    joined: str = ""

    @property
    def next_sample(self) -> int:
        """The first sample that is not committed."""
        return self.takes[-1].stop if self.takes else 0

    def extended(self, name: str, stop: int) -> "Manifest":
        """Return this with the samples up to ``stop`` added, recorded by the take ``name``."""
        if self.takes and self.takes[-1].name == name:
            takes = (*self.takes[:-1], Take(name, self.takes[-1].start, stop))
        else:
            takes = (*self.takes, Take(name, self.next_sample, stop))
        return msgspec.structs.replace(self, takes=takes)

    def segments(self) -> Iterator[tuple[str, int]]:
        """Give the file name and the number of samples of each segment, in order."""
        for take in self.takes:
            for start in range(take.start, take.stop, self.step):
                yield segment_name(take.name, start), min(self.step, take.stop - start)


def segment_name(take: str, start: int) -> str:
    """Return the file name of the segment of a take that begins at sample ``start``."""
    return f"{take}.{start:012d}.wav"


class Source:
    """The samples of a file or URL: 16 bits, packed, in its own rate and channels. It blocks: use threads."""

    def __init__(self, address: str) -> None:
        self._lock = threading.Lock()  # a cancelled coroutine closes while its thread may still be decoding
        self._container = av.open(address, timeout=10.0)
        if not self._container.streams.audio:
            self._container.close()
            raise ValueError(f"source {address!r} has no audio")
        stream = self._container.streams.audio[0]
        self.rate, self.channels = stream.rate, stream.channels
        self._buffer = bytearray()
        self._chunks = self._decode()

    def _decode(self) -> Iterator[bytes]:
        resampler = AudioResampler(format="s16")
        for frame in self._container.decode(audio=0):
            for packed in resampler.resample(frame):
                yield bytes(packed.planes[0])[: packed.samples * self.channels * SAMPLE_BYTES]

    def read(self, samples: int) -> bytes:
        """Return the next ``samples`` samples; fewer at the end, none after it."""
        size = samples * self.channels * SAMPLE_BYTES
        with self._lock:
            while len(self._buffer) < size and (chunk := next(self._chunks, None)) is not None:
                self._buffer += chunk
            found = bytes(self._buffer[:size])
            del self._buffer[:size]
            return found

    def skip(self, samples: int) -> None:
        """Drop samples by counting them: seeking would be faster, and inexact in most formats."""
        while samples > 0:
            block = min(samples, 10 * self.rate)
            self.read(block)
            samples -= block

    def close(self) -> None:
        """Close the source once no thread reads from it."""
        with self._lock:
            self._container.close()


def write_wav(path: Path, manifest: Manifest, blocks: Iterator[bytes]) -> None:
    """Write a WAV file that is either complete, synced and there, or not there at all."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with unfinished.open("xb") as file:
        with wave.open(file, "wb") as out:
            out.setnchannels(manifest.channels)
            out.setsampwidth(SAMPLE_BYTES)
            out.setframerate(manifest.rate)
            for block in blocks:
                out.writeframesraw(block)
        file.flush()
        os.fsync(file.fileno())
    move(unfinished, path)


def move(old: Path, new: Path) -> None:
    """Rename a file, durably."""
    old.replace(new)
    directory = os.open(new.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_segments(folder: Path, manifest: Manifest) -> Iterator[bytes]:
    """Give the committed samples, segment by segment."""
    for name, samples in manifest.segments():
        with wave.open(str(folder / name), "rb") as segment:
            if segment.getnframes() != samples:
                raise ValueError(f"{name} holds {segment.getnframes()} samples, not the {samples} committed")
            yield segment.readframes(samples)


class Tape:
    """The recording of one session, as far as its newest owner knows it."""

    def __init__(self, session: Session, folder: Path, output: Path, manifest: Manifest) -> None:
        self._session = session
        self._folder = folder
        self._output = output
        self._take = f"{session.fence}-{secrets.token_hex(4)}"
        self.manifest = manifest

    async def commit(self, block: bytes) -> None:
        """Write the next segment, and commit it: if that fails the file means nothing."""
        start = self.manifest.next_sample
        stop = start + len(block) // (self.manifest.channels * SAMPLE_BYTES)
        if stop == start:
            return
        self._session.check()
        path = self._folder / segment_name(self._take, start)
        await asyncio.to_thread(write_wav, path, self.manifest, iter([block]))
        await self._save(self.manifest.extended(self._take, stop))

    async def join(self) -> None:
        """Write the whole recording, commit it, and put it where it is looked for."""
        self._session.check()
        path = self._folder / f"{self._take}.joined.wav"
        await asyncio.to_thread(write_wav, path, self.manifest, read_segments(self._folder, self.manifest))
        await self._save(msgspec.structs.replace(self.manifest, joined=path.name))

    async def deliver(self) -> None:
        """Move the joined file to its place; an owner before us may have done so already."""
        await asyncio.to_thread(self._deliver)

    def _deliver(self) -> None:
        joined = self._folder / self.manifest.joined
        if joined.exists() or not self._output.exists():
            move(joined, self._output)
        shutil.rmtree(self._folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another session of the call may still have its folder there
            self._folder.parent.rmdir()

    async def _save(self, manifest: Manifest) -> None:
        await self._session.checkpoint(msgspec.to_builtins(manifest))
        self.manifest = manifest


def resumed(session: Session, folder: Path, output: Path) -> Manifest | None:
    """Return what earlier owners committed, or None to begin at the beginning.

    A Redis that was rolled back may name files that were delivered or deleted since: begin again then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if session.resume is None:
        return None
    manifest = msgspec.convert(session.resume, Manifest)
    if manifest.joined:
        there = (folder / manifest.joined).exists() or output.exists()
    else:
        there = all((folder / name).exists() for name, _ in manifest.segments())
    if not there:
        session.log.warning("committed files are gone, recording again", next_sample=manifest.next_sample)
    return manifest if there else None


async def capture(session: Session, order: Order, source: Source, tape: Tape) -> None:
    """Record until the source ends, one segment at a time, at the pace at which it would be heard."""
    clock: Callable[[], float] = asyncio.get_running_loop().time
    rate = tape.manifest.rate * order.speed
    frame_bytes = tape.manifest.channels * SAMPLE_BYTES
    first, started_s = tape.manifest.next_sample, clock()
    while block := await asyncio.to_thread(source.read, tape.manifest.step):
        start = tape.manifest.next_sample
        heard_at_s = started_s + (start - first + len(block) // frame_bytes) / rate
        try:
            await asyncio.sleep(heard_at_s - clock())
        except asyncio.CancelledError:
            if session.end_reason == "drained":  # the lease is still ours: leave nothing heard behind
                heard = max(0, int((clock() - started_s) * rate) - (start - first))
                await tape.commit(block[: heard * frame_bytes])
            raise
        await tape.commit(block)


@app.session
async def record(session: Session) -> None:
    """Record one call; started again, here or elsewhere, it goes on where the last checkpoint was."""
    order = msgspec.convert(session.metadata, Order)
    name = order.output or f"{session.call_id}.wav"
    if Path(name).name != name or not order.speed > 0:
        raise ValueError(f"output = {name!r}, speed = {order.speed}: give a plain file name, a speed above 0")
    out = Path(os.environ.get("RECORDER_OUT") or "recordings")
    folder, output = out / f"{name}.parts" / session.id, out / name
    manifest = await asyncio.to_thread(resumed, session, folder, output)
    if manifest is None or not manifest.joined:
        source = await asyncio.to_thread(Source, order.source)
        try:
            manifest = manifest or Manifest(source.rate, source.channels, SEGMENT_S * source.rate)
            tape = Tape(session, folder, output, manifest)
            session.log.info("recording", source=order.source, next_sample=manifest.next_sample)
            await asyncio.to_thread(source.skip, manifest.next_sample)
            await capture(session, order, source, tape)
        finally:
            await asyncio.to_thread(source.close)
        await tape.join()
    else:
        tape = Tape(session, folder, output, manifest)
    await tape.deliver()
    await session.publish(output=name, samples=tape.manifest.next_sample)


if __name__ == "__main__":
    app.run()
