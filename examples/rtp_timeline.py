"""What the packets of a call mean together: their order, and the place of each sample in the recording.

Pure: packets in, pieces of the recording out. :class:`Door` says whose packets count, :class:`Reception` brings
them into order, :class:`Timeline` gives every sample its place. Sample ``n`` of a recording is the one with the
RTP timestamp of its stream's first sample plus ``n``: the sender's clock goes on whatever is lost on the way and
whoever records, so the recording is as long as the call was, and what nobody heard is silence of exactly its length.

All memory is bounded, whatever is sent. Not guaranteed: that a sender is who it says it is; RTP is not
signed (SRTP is), and one that can be overheard can be forged.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import rtp

DEPTH = 16
"""Packets that wait for one that is late. A recorder is in no hurry; what waits is lost when its process dies."""

MAX_DROPOUT, MAX_MISORDER = 3000, 100
"""A sequence number further ahead or back than this counts when a second one follows it (RFC 3550, A.1)."""

MAX_GAP_S = 3600
"""A clock further ahead than this was set anew: the stream is a new one."""

MAX_BACK_S = 10
"""A clock further back than this likewise; less is a packet that overlaps with what was heard before."""

MAX_STREAMS = 100
SILENT_S = 2.0


class Stream(msgspec.Struct, frozen=True):
    """Where a stream begins: its sample ``start`` of the recording has the RTP time ``timestamp``."""

    ssrc: int
    start: int
    timestamp: int


class Gap(msgspec.Struct, frozen=True):
    """Samples that nobody heard, silent in the recording.

    ``why``: ``lost`` on the way, ``pause`` of the sender (silence suppression, a keypress), or ``takeover``.
    """

    start: int
    samples: int
    why: str

    @property
    def stop(self) -> int:
        """The sample behind it."""
        return self.start + self.samples


class Piece(NamedTuple):
    """What one packet adds to the recording: a gap before its samples, or none, and the samples, of 16 bits."""

    gap: Gap | None
    samples: bytes


class Door:
    """Lets in the packets of one source: the first that is heard, until it has been silent for a while."""

    def __init__(self, ssrc: int | None = None, host: str = "") -> None:
        """Let in everybody, or only who has the SSRC and the address that the call was announced with."""
        self._ssrc = ssrc
        self._host = host
        self._source: tuple[str, int] | None = None
        self._heard_s = 0.0

    def admits(self, source: tuple[str, int], ssrc: int, now_s: float) -> bool:
        """Tell whether a packet counts."""
        if (self._ssrc is not None and ssrc != self._ssrc) or (self._host and source[0] != self._host):
            return False
        if self._source not in {None, source} and now_s - self._heard_s < SILENT_S:
            return False
        self._source, self._heard_s = source, now_s
        return True

    def knows(self, source: tuple[str, int]) -> bool:
        """Tell whether this is the source whose packets count."""
        return source == self._source


class JitterBuffer:
    """Brings the packets of one SSRC into the order of their sequence numbers, and drops the ones it had.

    The first packets are held until it is full, since the very first may be late as well.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self._held: dict[int, rtp.Packet] = {}
        self._newest: int | None = None
        self._next: int | None = None
        self._odd: rtp.Packet | None = None
        self.dropped = 0

    def add(self, packet: rtp.Packet) -> list[rtp.Packet]:
        """Take a packet as it comes, and return those whose turn it is now."""
        if self._newest is None:
            self._newest = packet.sequence
        ahead = _signed(packet.sequence - self._newest, 16)
        if not -MAX_MISORDER <= ahead <= MAX_DROPOUT:
            return self._jump(packet)
        self._odd = None
        index = self._newest + ahead
        if index in self._held or (self._next is not None and index < self._next):
            self.dropped += 1
            return []
        self._held[index] = packet
        self._newest = max(self._newest, index)
        return list(self._release(self._depth))

    def flush(self) -> list[rtp.Packet]:
        """Return all that is held: nothing more is waited for."""
        return list(self._release(0))

    def _release(self, depth: int) -> Iterator[rtp.Packet]:
        while self._held and (self._next in self._held or len(self._held) > depth):
            first = min(self._held)
            self._next = first + 1
            yield self._held.pop(first)

    def _jump(self, packet: rtp.Packet) -> list[rtp.Packet]:
        """Start again when two packets in a row agree on the new place; one alone is a stray."""
        before, self._odd = self._odd, packet
        if before is None or packet.sequence != before.sequence + 1 & 0xFFFF:
            self.dropped += before is not None
            return []
        released = self.flush()
        self._newest = self._next = self._odd = None
        return [*released, *self.add(before), *self.add(packet)]


class Reception:
    """Brings the packets of one source into order, stream by stream.

    Another SSRC is a new stream once it has filled a buffer of its own, and the one before it is over then: a few
    strays of it, late or forged, change nothing.
    """

    def __init__(self, over: Iterable[int] = (), depth: int = DEPTH) -> None:
        """Begin, knowing the SSRCs of streams that are ``over``."""
        self._over = set(over)
        self._depth = depth
        self._current: JitterBuffer | None = None
        self._ssrc: int | None = None
        self._candidate = JitterBuffer(depth)
        self._candidate_ssrc: int | None = None

    def add(self, packet: rtp.Packet) -> list[rtp.Packet]:
        """Take a packet as it comes, and return those whose turn it is now."""
        if self._current is not None and packet.ssrc == self._ssrc:
            return self._current.add(packet)
        if packet.ssrc in self._over or len(self._over) >= MAX_STREAMS:
            return []
        if packet.ssrc != self._candidate_ssrc:
            self._candidate, self._candidate_ssrc = JitterBuffer(self._depth), packet.ssrc
        released = self._candidate.add(packet)
        return [*self._change(), *released] if released else []

    def flush(self) -> list[rtp.Packet]:
        """Return all that is held: nothing more is waited for."""
        return (self._current or self._candidate).flush()

    def _change(self) -> list[rtp.Packet]:
        rest = self._current.flush() if self._current else []
        if self._ssrc is not None:
            self._over.add(self._ssrc)
        self._current, self._ssrc = self._candidate, self._candidate_ssrc
        self._candidate, self._candidate_ssrc = JitterBuffer(self._depth), None
        return rest


class Timeline:
    """Gives each sample its place in the recording, from packets in order."""

    def __init__(self, streams: tuple[Stream, ...] = (), next_sample: int = 0) -> None:
        """Begin, or go on behind what earlier owners committed."""
        self.streams = streams
        self.next_sample = next_sample
        self._sequence = 0
        self._why = "takeover"

    def place(self, packet: rtp.Packet) -> Piece:
        """Return what the packet adds; nothing if it has no speech, or only what was heard before."""
        if self._why == "pause" and packet.sequence != self._sequence + 1 & 0xFFFF:
            self._why = "lost"
        self._sequence = packet.sequence
        samples = rtp.decode(packet)
        if not samples or not self._belongs(packet):
            return Piece(None, b"")
        ahead = self._ahead(packet)
        if ahead * 2 <= -len(samples):
            return Piece(None, b"")
        gap = Gap(self.next_sample, ahead, self._why) if ahead > 0 else None
        fresh = samples[-2 * ahead :] if ahead < 0 else samples
        self.next_sample += max(0, ahead) + len(fresh) // 2
        self._why = "pause"
        return Piece(gap, fresh)

    def _ahead(self, packet: rtp.Packet) -> int:
        """Return by how many samples the packet is ahead of what is expected."""
        stream = self.streams[-1]
        expected = stream.timestamp + self.next_sample - stream.start
        return _signed(packet.timestamp - expected, 32)

    def _belongs(self, packet: rtp.Packet) -> bool:
        """Tell whether the packet is of the last stream, which is begun for it if need be."""
        known = bool(self.streams) and self.streams[-1].ssrc == packet.ssrc
        if known and -MAX_BACK_S * rtp.RATE <= self._ahead(packet) <= MAX_GAP_S * rtp.RATE:
            return True
        if len(self.streams) >= MAX_STREAMS:
            return False
        self.streams = (*self.streams, Stream(packet.ssrc, self.next_sample, packet.timestamp))
        return True


def split(gaps: Iterable[Gap], at: int) -> tuple[list[Gap], list[Gap]]:
    """Return what of the gaps is before the sample ``at``, and what is behind."""
    before, behind = list[Gap](), list[Gap]()
    for gap in gaps:
        if gap.start < at:
            before.append(Gap(gap.start, min(gap.stop, at) - gap.start, gap.why))
        if gap.stop > at:
            start = max(gap.start, at)
            behind.append(Gap(start, gap.stop - start, gap.why))
    return before, behind


def merge(gaps: Iterable[Gap]) -> list[Gap]:
    """Return gaps in order, with those made one that were cut apart."""
    merged: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: gap.start):
        last = merged[-1] if merged else None
        if last is not None and last.stop == gap.start and last.why == gap.why:
            merged[-1] = Gap(last.start, last.samples + gap.samples, gap.why)
        else:
            merged.append(gap)
    return merged


def _signed(difference: int, bits: int) -> int:
    """Return the shortest way between two numbers that wrap around: RFC 1982's serial arithmetic."""
    half = 1 << bits - 1
    return (difference + half) % (2 * half) - half
