"""Recordings that are exact whoever dies when: segments in a folder, committed one by one under the fence.

What ``recorder.py`` and ``rtp_recorder.py`` share. Several owners may run one session for a while, and any may be
killed at any moment. So nothing counts but what the *checkpoint* names, and Redis takes a checkpoint only from
the newest owner. A segment is written and synced first, under a name that no other owner uses; then the
checkpoint commits it.

Samples have 16 bits. A recording is one file in the end; until then its segments need a folder that all workers reach.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Generic, Protocol, Self, TypeVar

import msgspec

SAMPLE_BYTES = 2


class Take(msgspec.Struct, frozen=True, array_like=True):
    """Committed segments of one owner: samples ``start`` to ``stop``, cut every ``Manifest.step`` samples.

    Without a name it is silence, which has no files; ``note`` says why nothing was heard.
    """

    name: str
    start: int
    stop: int
    note: str = ""


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

    def extended(self, name: str, stop: int, note: str = "") -> Self:
        """Return this with the samples up to ``stop`` added, recorded by the take ``name`` or, without one, silent."""
        if name and self.takes and self.takes[-1].name == name:
            takes = (*self.takes[:-1], Take(name, self.takes[-1].start, stop))
        else:
            takes = (*self.takes, Take(name, self.next_sample, stop, note))
        return msgspec.structs.replace(self, takes=takes)

    def segments(self) -> Iterator[tuple[str, int]]:
        """Give the file name and the number of samples of each segment, in order; silence has no name."""
        for take in self.takes:
            for start in range(take.start, take.stop, self.step):
                yield (
                    segment_name(take.name, start) if take.name else "",
                    min(self.step, take.stop - start),
                )


def segment_name(take: str, start: int) -> str:
    """Return the file name of the segment of a take that begins at sample ``start``."""
    return f"{take}.{start:012d}.wav"


def write_file(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """Write a file that is either complete, synced and there, or not there at all."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with unfinished.open("xb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    move(unfinished, path)


def write_wav(path: Path, manifest: Manifest, blocks: Iterator[bytes]) -> None:
    """Write a WAV file in this way."""

    def fill(file: BinaryIO) -> None:
        with wave.open(file, "wb") as out:
            out.setnchannels(manifest.channels)
            out.setsampwidth(SAMPLE_BYTES)
            out.setframerate(manifest.rate)
            for block in blocks:
                out.writeframesraw(block)

    write_file(path, fill)


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
        if not name:
            yield bytes(samples * manifest.channels * SAMPLE_BYTES)
            continue
        with wave.open(str(folder / name), "rb") as segment:
            if segment.getnframes() != samples:
                raise ValueError(f"{name} holds {segment.getnframes()} samples, not the {samples} committed")
            yield segment.readframes(samples)


class Fenced(Protocol):
    """What a tape needs of a session."""

    @property
    def fence(self) -> int:
        """The fencing token."""
        ...

    def check(self) -> None:
        """Raise LeaseLost if another owner may have it."""
        ...

    async def checkpoint(self, state: Any) -> None:
        """Store what the next owner resumes from."""
        ...


M = TypeVar("M", bound=Manifest)


class Tape(Generic[M]):
    """The recording of one session, as far as its newest owner knows it."""

    def __init__(self, session: Fenced, folder: Path, output: Path, manifest: M) -> None:
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

    async def _save(self, manifest: M) -> None:
        await self._session.checkpoint(msgspec.to_builtins(manifest))
        self.manifest = manifest


def resumed(kind: type[M], checkpoint: Any, folder: Path, output: Path) -> M | None:
    """Return what earlier owners committed, or None where there is nothing to go on from: none, or files that are gone.

    A Redis that was rolled back may name files that were delivered or deleted since.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoint is None:
        return None
    manifest = msgspec.convert(checkpoint, kind)
    if manifest.joined:
        there = (folder / manifest.joined).exists() or output.exists()
    else:
        there = all((folder / name).exists() for name, _ in manifest.segments() if name)
    return manifest if there else None


def places(call_id: str, session_id: str, output: str) -> tuple[Path, Path]:
    """Return the folder of a session's segments, and where its recording goes: in ``$RECORDER_OUT`` (./recordings).

    Raises:
        ValueError: ``output`` is no plain file name.
    """
    name = output or f"{call_id}.wav"
    if Path(name).name != name:
        raise ValueError(f"output = {name!r}: give a plain file name")
    out = Path(os.environ.get("RECORDER_OUT") or "recordings")
    return out / f"{name}.parts" / session_id, out / name
