"""Record calls exactly, whatever happens to the workers that record them.

Start it as a program of its own, or let the worker import it:

    python examples/recorder.py                                     (settings: MEDIAFLOW_* or a file)
    cd examples && python -m mediaflow.worker --slots 10 --app recorder:app
    curl -X POST localhost:8080/calls/call-42 -d '{"source": "/srv/speech.wav"}'

The call's metadata name a ``source`` (a file or URL that PyAV can decode), optionally an ``output`` file
name and a ``speed`` (1 is real time). The recording appears in ``$RECORDER_OUT`` (./recordings).

How it is exact: ``segments.py`` tells. The next owner decodes again and drops exactly the samples that are committed.

Not for live sources, which ``rtp_recorder.py`` is for: a source has to give the same samples each time it is
opened. And whoever may start calls may name any file that the worker can read: check ``source`` before you use
this in earnest.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator

import av
import msgspec
from av.audio.resampler import AudioResampler
from segments import SAMPLE_BYTES, Manifest, Tape, places, resumed

from mediaflow import MediaApp, Session

SEGMENT_S = 1

app = MediaApp()


class Order(msgspec.Struct, frozen=True):
    """The metadata of a call that is to be recorded."""

    source: str
    output: str = ""
    speed: float = 1.0


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


async def capture(session: Session, order: Order, source: Source, tape: Tape[Manifest]) -> None:
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
    if not order.speed > 0:
        raise ValueError(f"speed = {order.speed}: give a speed above 0")
    folder, output = places(session.call_id, session.id, order.output)
    manifest = await asyncio.to_thread(resumed, Manifest, session.resume, folder, output)
    if manifest is None and session.resume is not None:
        session.log.warning("committed files are gone, recording again")
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
    await session.publish(output=output.name, samples=tape.manifest.next_sample)


if __name__ == "__main__":
    app.run()
