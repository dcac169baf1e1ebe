"""What the bench overhears of the stream service, and asks again."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mediaflow.bench.ours.filling import commands, packed
from mediaflow.bench.ours.moments import MOMENT, note_now, read_moments
from mediaflow.bench.ours.wire import Requests, words_of

ESCAPES = {9: rb"\t", 10: rb"\n", 13: rb"\r", 7: rb"\a", 8: rb"\b", 34: rb"\"", 92: rb"\\"}


def as_monitor_tells(words: list[bytes]) -> bytes:
    def escaped(word: bytes) -> bytes:
        return b"".join(
            ESCAPES.get(byte) or (bytes([byte]) if 32 <= byte < 127 else b"\\x%02x" % byte) for byte in word
        )

    return (
        b"+1700000000.000001 [0 127.0.0.1:5] "
        + b" ".join(b'"%s"' % escaped(word) for word in words)
        + b"\r\n"
    )


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_the_words_of_a_command_are_told_whatever_they_hold(words: list[bytes]):
    assert words_of(as_monitor_tells(words)) == words


def test_users_and_streams_differ_and_are_as_long_as_the_ones_overheard():
    start = [b"EVALSHA", b"sha", b"2", b"ns:{uabcd}:streams", b"ns:{uabcd}:limit", b'{"id":"wxyz"}']
    beat = [b"EVALSHA", b"ahs", *start[2:]]
    requests = Requests(start, beat, b"abcd", b"wxyz")
    asked = list(commands(requests, users=12))
    assert len({(words[1], words[3], words[5]) for words in asked}) == len(asked) == 12 * 4
    assert {tuple(map(len, words)) for words in asked} == {tuple(map(len, start))}
    assert json.loads(asked[1][5]) == {"id": "0001"}


def test_a_command_is_packed_as_redis_reads_it():
    assert packed([b"GET", b"\xff\x00"]) == b"*2\r\n$3\r\nGET\r\n$2\r\n\xff\x00\r\n"


def test_moments_are_read_as_far_as_they_were_written(tmp_path: Path):
    path = tmp_path / "moments"
    assert read_moments(path) == []
    with path.open("ab", buffering=0) as file:
        note_now(file.fileno())
        note_now(file.fileno())
        file.write(b"\x01")
    first, second = read_moments(path)
    assert 0 < first <= second
    assert path.stat().st_size == 2 * MOMENT.size + 1
