"""The tape of a live call: speech and gaps, committed second by second, with a JSON file beside each WAV file.

The gaps of a segment stand in a file beside it, not in the checkpoint: a bad line has more of them than fit there.
"""

import asyncio
from collections import deque
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from rtp_timeline import Gap, Piece, Stream, merge, split
from segments import SAMPLE_BYTES, Fenced, Manifest, Tape, move, segment_name, write_file

LONG_GAP_S = 30
"""A longer silence is committed as a length, without files; a takeover's always is."""


class LiveManifest(Manifest, frozen=True):
    """The checkpoint: what is committed, and where its streams began."""

    streams: tuple[Stream, ...] = ()


class Ended:
    """Stands for the session of a call that was ended: nobody owns it, nor ever will, so nobody is asked."""

    def __init__(self, fence: int) -> None:
        self.fence = fence

    def check(self) -> None:
        """Allow all."""

    async def checkpoint(self, state: Any) -> None:
        """Leave nothing: there is no next owner."""


class LiveTape(Tape[LiveManifest]):
    """The recording of a live call. What is added waits in memory until a whole segment can be committed."""

    def __init__(self, session: Fenced, folder: Path, output: Path, manifest: LiveManifest) -> None:
        super().__init__(session, folder, output, manifest)
        self._streams = manifest.streams
        self._pieces = deque[Piece]()
        self._pending = bytearray()
        self._gaps: list[Gap] = []

    def add(self, piece: Piece, streams: tuple[Stream, ...]) -> None:
        """Add what a packet brought, and the streams there are by now."""
        self._streams = streams
        if piece.samples:
            self._pieces.append(piece)

    async def keep(self, *, to_the_end: bool = False) -> None:
        """Commit what fills a segment, or all that there is. Interrupted, it may be called again."""
        if self._streams != self.manifest.streams:
            await self._save(
                self.manifest
            )  # if we die in the next second, the next owner knows when the call began
        step_bytes = self.manifest.step * SAMPLE_BYTES
        while True:
            while len(self._pending) >= step_bytes:
                await self._commit_pending(step_bytes)
            if not self._pieces:
                break
            gap, samples = self._pieces[0]
            if gap is not None and (gap.why == "takeover" or gap.samples > LONG_GAP_S * self.manifest.rate):
                await self._commit_pending(len(self._pending))
                await self._save(self.manifest.extended("", gap.stop, gap.why))
            elif gap is not None:
                self._gaps.append(gap)
                self._pending += bytes(gap.samples * SAMPLE_BYTES)
            self._pending += samples
            self._pieces.popleft()  # nothing was awaited since the gap was committed: a piece is taken once
        if to_the_end:
            await self._commit_pending(len(self._pending))

    async def join(self) -> None:
        """Write the whole recording and what is to be known about it, and commit both."""
        self._session.check()
        path = self._folder / f"{self._take}.joined.json"
        await asyncio.to_thread(self._write_story, path)
        await super().join()

    def disown(self) -> None:
        """Go on without the session: its call was ended."""
        self._session = Ended(self._session.fence)

    def is_newest(self) -> bool:
        """Tell whether no later owner has begun to write."""
        fences = [int(path.name.partition("-")[0]) for path in self._folder.glob("*-*.wav")]
        return max(fences, default=0) <= self._session.fence

    def story(self) -> dict[str, Any]:
        """Return what there is to know about the recording, apart from its sound."""
        silent = [
            Gap(take.start, take.stop - take.start, take.note)
            for take in self.manifest.takes
            if not take.name
        ]
        noted = [gap for name, _ in self.manifest.segments() if name for gap in self._read_gaps(name)]
        return {
            "rate": self.manifest.rate,
            "samples": self.manifest.next_sample,
            "streams": self.manifest.streams,
            "gaps": merge([*silent, *noted]),
            "takes": [
                {
                    "fence": int(take.name.partition("-")[0]),
                    "start": take.start,
                    "samples": take.stop - take.start,
                }
                for take in self.manifest.takes
                if take.name
            ],
        }

    async def _commit_pending(self, size: int) -> None:
        block = bytes(self._pending[:size])
        if not block:
            return
        start = self.manifest.next_sample
        before, behind = split(self._gaps, start + size // SAMPLE_BYTES)
        self._session.check()
        await asyncio.to_thread(_write_json, self._beside(segment_name(self._take, start)), before)
        await self.commit(block)
        self._gaps = behind
        del self._pending[:size]

    async def _save(self, manifest: LiveManifest) -> None:
        await super()._save(msgspec.structs.replace(manifest, streams=self._streams))

    def _beside(self, wav: str) -> Path:
        return (self._folder / wav).with_suffix(".json")

    def _read_gaps(self, wav: str) -> list[Gap]:
        return msgspec.json.decode(self._beside(wav).read_bytes(), type=list[Gap])

    def _write_story(self, path: Path) -> None:
        _write_json(path, self.story())

    def _deliver(self) -> None:
        story = self._beside(self.manifest.joined)
        if story.exists():
            move(story, self._output.with_suffix(".json"))
        super()._deliver()


def _write_json(path: Path, value: Any) -> None:
    def fill(file: BinaryIO) -> None:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=2))

    write_file(path, fill)
