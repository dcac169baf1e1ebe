"""RTP as it is on the wire (RFC 3550), and G.711, the speech of telephones (RFC 3551): bytes in, values out.

No sockets, no clock. What the packets of a stream mean together is ``rtp_timeline.py``.
"""

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

RATE = 8000
"""Samples a second of G.711, and ticks a second of its RTP clock: a timestamp counts samples."""

PCMU, PCMA = 0, 8
CODECS = {PCMU: "PCMU", PCMA: "PCMA"}

VERSION = 2
FIRST_RTCP, LAST_RTCP = 192, 223
GOODBYE = 203

_HEADER = Struct("!BBHII")
_EXTENSION = Struct("!HH")
_RTCP = Struct("!BBH")
_SOURCE = Struct("!I")


class Packet(NamedTuple):
    """One RTP packet. Sequence numbers have 16 bits and timestamps 32; both begin anywhere and wrap around."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False


def parse(datagram: bytes) -> Packet:
    """Read an RTP packet; what CSRC list, header extension and padding hold is left out.

    Raises:
        ValueError: It is none.
    """
    if len(datagram) < _HEADER.size:
        raise ValueError(f"{len(datagram)} bytes: an RTP header has {_HEADER.size}")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(datagram)
    if first >> 6 != VERSION:
        raise ValueError(f"version {first >> 6}: RTP is version {VERSION}")
    start, stop = _HEADER.size + _SOURCE.size * (first & 0x0F), len(datagram)
    if first & 0x10:
        if start + _EXTENSION.size > stop:
            raise ValueError("the header extension is cut off")
        start += _EXTENSION.size + 4 * _EXTENSION.unpack_from(datagram, start)[1]
    if first & 0x20:
        if datagram[-1] == 0:
            raise ValueError("padding of 0 bytes: it counts itself, so it has one at least")
        stop -= datagram[-1]
    if start > stop:
        raise ValueError(f"{len(datagram)} bytes: fewer than its header and padding say")
    return Packet(second & 0x7F, sequence, timestamp, ssrc, datagram[start:stop], bool(second & 0x80))


def build(packet: Packet) -> bytes:
    """Return the datagram of a packet."""
    second = packet.marker << 7 | packet.payload_type
    header = _HEADER.pack(VERSION << 6, second, packet.sequence, packet.timestamp, packet.ssrc)
    return header + packet.payload


def is_rtcp(datagram: bytes) -> bool:
    """Tell control packets from RTP where both share one port (RFC 5761, section 4)."""
    return len(datagram) >= 2 and FIRST_RTCP <= datagram[1] <= LAST_RTCP


def goodbyes(datagram: bytes) -> frozenset[int]:
    """Return the SSRCs that a compound RTCP packet says goodbye of (RFC 3550, section 6.6); of a broken one, none."""
    found: set[int] = set()
    at = 0
    while at < len(datagram):
        if at + _RTCP.size > len(datagram):
            return frozenset()
        first, kind, words = _RTCP.unpack_from(datagram, at)
        end = at + _RTCP.size + 4 * words
        sources = first & 0x1F
        if first >> 6 != VERSION or end > len(datagram):
            return frozenset()
        if kind == GOODBYE:
            if sources > words:
                return frozenset()
            found.update(
                _SOURCE.unpack_from(datagram, at + _RTCP.size + _SOURCE.size * i)[0] for i in range(sources)
            )
        at = end
    return frozenset(found)


def build_goodbye(ssrc: int) -> bytes:
    """Return the RTCP packet that ends a stream: an empty receiver report, which has to come first, and BYE."""
    report = _RTCP.pack(VERSION << 6, 201, 1) + _SOURCE.pack(ssrc)
    return report + _RTCP.pack(VERSION << 6 | 1, GOODBYE, 1) + _SOURCE.pack(ssrc)


def _expand_mu_law(code: int) -> int:
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 0x07)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _expand_a_law(code: int) -> int:
    code ^= 0x55
    segment = code >> 4 & 0x07
    magnitude = ((code & 0x0F) << 4) + 8
    if segment:
        magnitude = magnitude + 0x100 << segment - 1
    return magnitude if code & 0x80 else -magnitude


def _halves(samples: Iterable[int]) -> tuple[bytes, bytes]:
    """Return the low bytes and the high bytes of 256 samples, as tables for :meth:`bytes.translate`."""
    pairs = [sample.to_bytes(2, "little", signed=True) for sample in samples]
    return bytes(low for low, _ in pairs), bytes(high for _, high in pairs)


_TABLES = {PCMU: _halves(map(_expand_mu_law, range(256))), PCMA: _halves(map(_expand_a_law, range(256)))}


def decode(packet: Packet) -> bytes:
    """Return the samples of a packet, 16 bits each, little-endian; none of a payload that is not G.711."""
    if packet.payload_type not in _TABLES:
        return b""
    low, high = _TABLES[packet.payload_type]
    samples = bytearray(2 * len(packet.payload))
    samples[0::2] = packet.payload.translate(low)
    samples[1::2] = packet.payload.translate(high)
    return bytes(samples)
