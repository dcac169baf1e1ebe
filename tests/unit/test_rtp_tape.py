"""The tape of a live call, without Redis: what was committed is kept once, whoever dies when; the rest is silent."""

import asyncio
import json
import random
import wave
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rtp
from rtp_tape import LiveManifest, LiveTape
from rtp_timeline import Timeline
from segments import resumed

SSRC, FRAME, PER_SECOND = 7, 160, 50


class LeaseGoneError(Exception):
    """Stands for LeaseLost, and for the end of the process."""


class Owner:
    """One owner of the session; it dies at its n-th checkpoint, before or after that was applied."""

    saved: Any = None

    def __init__(self, fence: int, *, dies_at: int = 0, applied: bool = True) -> None:
        self.fence = fence
        self._left = dies_at
        self._applied = applied

    def check(self) -> None:
        """It is never told."""

    async def checkpoint(self, state: Any) -> None:
        self._left -= 1
        if self._left != 0 or self._applied:
            Owner.saved = msgspec.json.decode(msgspec.json.encode(state))
        if self._left == 0:
            raise LeaseGoneError


@pytest.fixture(autouse=True)
def nothing_saved() -> None:
    Owner.saved = None


def call(seconds: float) -> list[rtp.Packet]:
    count = int(seconds * PER_SECOND)
    return [rtp.Packet(rtp.PCMA, i, i * FRAME, SSRC, random.Random(i).randbytes(FRAME)) for i in range(count)]


class Room:
    """Where a session of a call is recorded."""

    def __init__(self, out: Path) -> None:
        self.folder, self.output = out / "call.wav.parts" / "session", out / "call.wav"

    def tape(self, owner: Owner) -> LiveTape:
        manifest = resumed(LiveManifest, Owner.saved, self.folder, self.output)
        return LiveTape(owner, self.folder, self.output, manifest or LiveManifest(rtp.RATE, 1, rtp.RATE))

    async def record(self, tape: LiveTape, packets: list[rtp.Packet], *, to_the_end: bool = False) -> None:
        timeline = Timeline(tape.manifest.streams, tape.manifest.next_sample)
        for packet in packets:
            tape.add(timeline.place(packet), timeline.streams)
            await tape.keep()
        if to_the_end:
            await tape.keep(to_the_end=True)
            await tape.join()
            await tape.deliver()

    @property
    def recording(self) -> bytes:
        with wave.open(str(self.output), "rb") as file:
            return file.readframes(file.getnframes())

    @property
    def gaps(self) -> list[tuple[int, int, str]]:
        story = json.loads(self.output.with_suffix(".json").read_text())
        assert story["samples"] * 2 == len(self.recording)
        return [(gap["start"], gap["samples"], gap["why"]) for gap in story["gaps"]]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def spoken(packets: list[rtp.Packet]) -> bytes:
    return b"".join(map(rtp.decode, packets))


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("dies_at", range(1, 7))
async def test_an_owner_killed_at_any_commit_loses_and_repeats_nothing_that_was_committed(
    room: Room, dies_at: int, applied: bool
) -> None:
    packets = call(9.5)
    with pytest.raises(LeaseGoneError):
        await room.record(room.tape(Owner(1, dies_at=dies_at, applied=applied)), packets)
    # The first checkpoint says when the call began; each that follows, one second of it.
    kept = max(0, dies_at - 1 if applied else dies_at - 2) * PER_SECOND
    resumes = 8 * PER_SECOND + 13
    await room.record(room.tape(Owner(2)), packets[resumes:], to_the_end=True)
    if dies_at == 1 and not applied:
        assert room.recording == spoken(packets[resumes:]), "nobody could know that there was more"
        return
    silence = bytes(2 * FRAME * (resumes - kept))
    assert room.recording == spoken(packets[:kept]) + silence + spoken(packets[resumes:])
    assert room.gaps == [(kept * FRAME, (resumes - kept) * FRAME, "takeover")]
    assert sorted(path.name for path in room.output.parent.iterdir()) == ["call.json", "call.wav"]


async def test_an_owner_that_is_drained_while_it_commits_leaves_nothing_behind(room: Room) -> None:
    packets = call(3.3)

    class Slow(Owner):
        async def checkpoint(self, state: Any) -> None:
            await super().checkpoint(state)
            if len(state["takes"]) and not reached.is_set():
                reached.set()
                await asyncio.Event().wait()

    reached = asyncio.Event()
    tape = room.tape(Slow(1))
    timeline = Timeline()
    for packet in packets[: 2 * PER_SECOND]:
        tape.add(timeline.place(packet), timeline.streams)
    keeping = asyncio.create_task(tape.keep())
    async with asyncio.timeout(10):
        await reached.wait()
        keeping.cancel()
        await asyncio.wait([keeping])
        await tape.keep(to_the_end=True)
        await room.record(room.tape(Owner(2)), packets[2 * PER_SECOND :], to_the_end=True)
    assert room.recording == spoken(packets)
    assert room.gaps == []


async def test_a_loss_across_two_segments_is_noted_as_one(room: Room) -> None:
    packets = call(3)
    await room.record(room.tape(Owner(1)), packets[:45] + packets[55:], to_the_end=True)
    assert room.gaps == [(45 * FRAME, 10 * FRAME, "lost")]
    assert room.recording == spoken(packets[:45]) + bytes(2 * 10 * FRAME) + spoken(packets[55:])


async def test_a_long_silence_takes_no_files_and_is_as_long_as_it_was(room: Room) -> None:
    packets = call(2)
    away = 120 * rtp.RATE
    later = [packet._replace(timestamp=packet.timestamp + away) for packet in packets[75:]]
    tape = room.tape(Owner(1))
    await room.record(tape, [*packets[:75], *later])
    assert len(list(room.folder.glob("*.wav"))) <= 3
    await room.record(tape, [], to_the_end=True)
    assert room.gaps == [(75 * FRAME, away, "pause")]
    assert room.recording == spoken(packets[:75]) + bytes(2 * away) + spoken(packets[75:])


async def test_a_call_that_was_ended_is_kept_though_nothing_can_be_committed_any_more(room: Room) -> None:
    packets = call(2.5)
    tape = room.tape(Owner(1, dies_at=3, applied=False))
    with pytest.raises(LeaseGoneError):
        await room.record(tape, packets)
    tape.disown()
    assert tape.is_newest()
    (room.folder / "2-0123abcd.000000008000.wav").touch()
    assert not tape.is_newest(), "an owner of the past would have delivered"
    await room.record(tape, [], to_the_end=True)
    assert room.recording == spoken(packets[: 2 * PER_SECOND])
