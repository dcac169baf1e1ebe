"""The recorder of RTP, as far as it is pure: packets read rightly, brought into order, and put in their place."""

import random

import av
import pytest
import rtp
from hypothesis import given, settings
from hypothesis import strategies as st
from rtp_timeline import (
    DEPTH,
    MAX_STREAMS,
    Door,
    Gap,
    JitterBuffer,
    Reception,
    Stream,
    Timeline,
    merge,
    split,
)

SSRC = 0xDEADBEEF
FRAME = 160

packets = st.builds(
    rtp.Packet,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=st.integers(0, 0xFFFFFFFF),
    ssrc=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=200),
    marker=st.booleans(),
)


def stream(count: int, *, sequence: int = 0, timestamp: int = 0, ssrc: int = SSRC) -> list[rtp.Packet]:
    """Packets of 20 ms whose payloads differ; sequence and timestamp wrap around as they must."""
    return [
        rtp.Packet(
            rtp.PCMU,
            sequence + i & 0xFFFF,
            timestamp + i * FRAME & 0xFFFFFFFF,
            ssrc,
            random.Random(i).randbytes(FRAME),
        )
        for i in range(count)
    ]


def recorded(arrivals: list[rtp.Packet], timeline: Timeline | None = None) -> tuple[bytes, list[Gap]]:
    """What a recording holds, and its gaps, once these packets have arrived."""
    reception, timeline = Reception(), timeline or Timeline()
    speech, gaps = bytearray(), list[Gap]()
    for packet in [*(ready for one in arrivals for ready in reception.add(one)), *reception.flush()]:
        gap, samples = timeline.place(packet)
        if gap is not None:
            speech += bytes(2 * gap.samples)
            gaps.append(gap)
        speech += samples
    return bytes(speech), gaps


def spoken(sent: list[rtp.Packet]) -> bytes:
    return b"".join(map(rtp.decode, sent))


# -- on the wire


@given(packets)
def test_a_packet_is_read_as_it_was_built(packet: rtp.Packet) -> None:
    assert rtp.parse(rtp.build(packet)) == packet


@given(packets, st.lists(st.integers(0, 0xFFFFFFFF), max_size=15), st.integers(0, 5), st.integers(0, 255))
def test_csrcs_extension_and_padding_are_no_speech(
    packet: rtp.Packet, csrcs: list[int], words: int, padding: int
) -> None:
    plain = rtp.build(packet)
    first = plain[0] | len(csrcs) | (0x20 if padding else 0) | 0x10
    extra = b"".join(csrc.to_bytes(4, "big") for csrc in csrcs)
    extra += b"\xbe\xde" + words.to_bytes(2, "big") + bytes(4 * words)
    tail = bytes(padding - 1) + bytes([padding]) if padding else b""
    assert rtp.parse(bytes([first]) + plain[1:12] + extra + packet.payload + tail) == packet


@pytest.mark.parametrize(
    ("datagram", "error"),
    [
        (b"", "0 bytes"),
        (b"\x80" + bytes(10), "11 bytes"),
        (b"\x00" + bytes(11), "version 0"),
        (b"\x40" + bytes(20), "version 1"),
        (b"\x82" + bytes(15), "fewer"),
        (b"\x90" + bytes(13), "extension is cut off"),
        (b"\x90" + bytes(11) + b"\0\0\0\2" + bytes(7), "fewer"),
        (b"\xa0" + bytes(12), "padding of 0"),
        (b"\xa0" + bytes(11) + b"\x02", "fewer"),
    ],
)
def test_what_is_no_rtp_is_refused_with_its_reason(datagram: bytes, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        rtp.parse(datagram)


@given(st.binary(max_size=100))
def test_whatever_a_stranger_sends_is_read_or_refused_and_nothing_else(datagram: bytes) -> None:
    rtp.goodbyes(datagram)
    try:
        rtp.parse(datagram)
    except ValueError:
        return


def test_a_goodbye_is_heard_behind_a_report_and_tells_whose_it_is() -> None:
    sent = rtp.build_goodbye(SSRC)
    assert rtp.is_rtcp(sent)
    assert rtp.goodbyes(sent) == {SSRC}
    assert rtp.goodbyes(sent[:-1]) == frozenset(), "one that was cut off was believed"
    assert rtp.goodbyes(sent[:8]) == frozenset(), "a report is no goodbye"


@given(packets.filter(lambda packet: packet.payload_type not in range(64, 96)))
def test_speech_is_not_taken_for_a_control_packet(packet: rtp.Packet) -> None:
    assert not rtp.is_rtcp(rtp.build(packet))


@pytest.mark.parametrize(("codec", "kind"), [("pcm_mulaw", rtp.PCMU), ("pcm_alaw", rtp.PCMA)])
def test_each_code_of_g711_is_the_sample_that_ffmpeg_decodes(codec: str, kind: int) -> None:
    decoder = av.CodecContext.create(codec, "r")
    decoder.sample_rate, decoder.layout, decoder.format = rtp.RATE, "mono", "s16"
    codes = bytes(range(256))
    (frame,) = decoder.decode(av.Packet(codes))
    assert rtp.decode(rtp.Packet(kind, 0, 0, 0, codes)) == bytes(frame.planes[0])[: 2 * frame.samples]


# -- in order


@settings(max_examples=30)
@given(
    st.integers(1, 200), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.randoms(use_true_random=False)
)
def test_packets_that_come_late_or_twice_are_recorded_once_and_in_order(
    count: int, sequence: int, timestamp: int, luck: random.Random
) -> None:
    sent = stream(count, sequence=sequence, timestamp=timestamp)
    late = sorted(range(count), key=lambda i: i + luck.uniform(0, DEPTH / 2))
    arrivals = [sent[i] for i in late for _ in range(luck.choice([1, 1, 2]))]
    assert recorded(arrivals) == (spoken(sent), [])


@given(
    st.integers(2, 150),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.sets(st.integers(1, 148), max_size=60),
)
def test_what_is_lost_is_silence_of_its_exact_length_and_noted(
    count: int, sequence: int, timestamp: int, lost: set[int]
) -> None:
    sent = stream(count, sequence=sequence, timestamp=timestamp)
    lost = {i for i in lost if i < count - 1}
    speech, gaps = recorded([packet for i, packet in enumerate(sent) if i not in lost])
    assert speech == b"".join(
        bytes(2 * FRAME) if i in lost else rtp.decode(packet) for i, packet in enumerate(sent)
    )
    noted = {i for gap in gaps for i in range(gap.start // FRAME, gap.stop // FRAME)}
    assert noted == lost
    assert {gap.why for gap in gaps} <= {"lost"}


def test_a_recording_goes_on_where_both_counters_wrap_around() -> None:
    sent = stream(300, sequence=0xFFFF - 100, timestamp=0xFFFFFFFF - 200 * FRAME)
    assert recorded(sent) == (spoken(sent), [])


def test_a_packet_that_comes_too_late_changes_nothing() -> None:
    sent = stream(60)
    late = sent.pop(5)
    speech, gaps = recorded([*sent, late])
    assert gaps == [Gap(5 * FRAME, FRAME, "lost")]
    assert len(speech) == 60 * FRAME * 2


def test_one_stray_sequence_number_is_ignored_and_two_in_a_row_are_believed() -> None:
    sent = stream(40)
    stray = sent[20]._replace(sequence=30_000)
    assert recorded([*sent[:20], stray, *sent[20:]]) == (spoken(sent), [])
    again = [packet._replace(sequence=packet.sequence + 30_000) for packet in sent[20:]]
    assert recorded([*sent[:20], *again]) == (spoken(sent), [])


@given(st.lists(packets, max_size=300))
def test_nothing_that_is_sent_makes_a_buffer_grow(arrivals: list[rtp.Packet]) -> None:
    buffer = JitterBuffer()
    released = sum(len(buffer.add(packet)) for packet in arrivals)
    assert len(arrivals) - released - buffer.dropped <= DEPTH + 2


# -- in their place


def test_a_sender_that_says_nothing_for_a_while_is_silent_and_has_lost_nothing() -> None:
    sent = stream(40)
    later = [packet._replace(timestamp=packet.timestamp + 999) for packet in sent[20:]]
    speech, gaps = recorded([*sent[:20], *later])
    assert gaps == [Gap(20 * FRAME, 999, "pause")]
    assert speech == spoken(sent[:20]) + bytes(2 * 999) + spoken(sent[20:])


def test_a_keypress_takes_sequence_numbers_and_is_no_loss() -> None:
    sent = stream(40)
    sent[10] = sent[10]._replace(payload_type=101, payload=b"\1\n\0\xa0")
    assert recorded(sent)[1] == [Gap(10 * FRAME, FRAME, "pause")]


def test_packets_that_overlap_are_heard_once() -> None:
    sent = stream(40)
    longer = sent[10]._replace(payload=sent[10].payload + sent[11].payload)
    assert recorded([*sent[:10], longer, *sent[11:]]) == (spoken(sent), [])


@given(st.integers(0, 0xFFFFFFFF), st.integers(1, 40), st.integers(1, 3000))
def test_the_next_owner_knows_to_the_sample_how_much_nobody_heard(
    timestamp: int, heard: int, missed: int
) -> None:
    sent = stream(heard + missed + 20, timestamp=timestamp, sequence=65_000)
    before = Timeline()
    first, _ = recorded(sent[:heard], before)
    after = Timeline(before.streams, before.next_sample)
    second, gaps = recorded(sent[heard + missed :], after)
    assert gaps == [Gap(heard * FRAME, missed * FRAME, "takeover")]
    assert first == spoken(sent[:heard])
    assert second == bytes(2 * missed * FRAME) + spoken(sent[heard + missed :])
    assert after.next_sample == len(sent) * FRAME


def test_another_ssrc_is_a_new_stream_that_begins_where_the_last_one_ends() -> None:
    one, two = stream(30), stream(30, ssrc=7, timestamp=12345, sequence=9)
    timeline = Timeline()
    speech, gaps = recorded([*one, *two], timeline)
    assert (speech, gaps) == (spoken(one) + spoken(two), [])
    assert timeline.streams == (Stream(SSRC, 0, 0), Stream(7, 30 * FRAME, 12345))


def test_strays_of_another_ssrc_change_nothing_and_a_stream_that_is_over_stays_over() -> None:
    one, stray = stream(60), stream(DEPTH, ssrc=7)
    pairs = zip(one[20:], stray, strict=False)
    mixed = [*one[:20], *(packet for pair in pairs for packet in pair), *one[20 + DEPTH :]]
    assert recorded(mixed) == (spoken(one), [])
    two = stream(60, ssrc=8)
    assert recorded([*one[:30], *two, *one[30:]])[0] == spoken(one[:30]) + spoken(two)


@pytest.mark.parametrize("jump", [3601 * rtp.RATE, -11 * rtp.RATE])
def test_a_clock_that_was_set_anew_begins_a_new_stream(jump: int) -> None:
    sent = stream(40)
    later = [packet._replace(timestamp=packet.timestamp + jump & 0xFFFFFFFF) for packet in sent[20:]]
    timeline = Timeline()
    assert recorded([*sent[:20], *later], timeline) == (spoken(sent), [])
    assert [one.start for one in timeline.streams] == [0, 20 * FRAME]


def test_the_number_of_streams_is_bounded() -> None:
    timeline = Timeline()
    recorded(
        [packet for ssrc in range(MAX_STREAMS + 50) for packet in stream(DEPTH + 1, ssrc=ssrc)], timeline
    )
    assert len(timeline.streams) <= MAX_STREAMS


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=10),
    st.lists(st.integers(0, 600), max_size=10),
)
def test_gaps_that_segments_cut_apart_are_one_again(pairs: list[tuple[int, int]], cuts: list[int]) -> None:
    gaps, at = list[Gap](), 0
    for apart, samples in pairs:
        gaps.append(Gap(at + apart, samples, "lost"))
        at = gaps[-1].stop
    pieces, rest = list[Gap](), gaps
    for cut in sorted(cuts):
        before, rest = split(rest, cut)
        assert all(gap.samples > 0 and gap.stop <= cut for gap in before)
        pieces += before
    assert merge([*rest, *pieces]) == gaps


# -- who is let in


def test_the_first_source_counts_until_it_is_silent() -> None:
    door, one, two = Door(), ("127.0.0.1", 1), ("127.0.0.1", 2)
    assert not door.knows(one)
    assert door.admits(one, SSRC, 0.0)
    assert not door.admits(two, SSRC, 1.9)
    assert door.admits(one, SSRC, 2.0)
    assert not door.admits(two, SSRC, 3.9)
    assert door.admits(two, SSRC, 4.1), "a sender that moved is never heard again"
    assert door.knows(two)
    assert not door.knows(one)


def test_a_call_announced_with_ssrc_and_host_takes_packets_of_no_other() -> None:
    door = Door(SSRC, "127.0.0.1")
    assert not door.admits(("127.0.0.1", 1), 7, 0.0)
    assert not door.admits(("127.0.0.2", 1), SSRC, 0.0)
    assert door.admits(("127.0.0.1", 1), SSRC, 0.0)
