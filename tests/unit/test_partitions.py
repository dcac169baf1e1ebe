"""Partitions: constants that are written into users' Redis, and so may never change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaflow.core.partitions import HASH_SLOTS, hash_slot, partition_of, tags

TAGS_OF_32 = """
    3560 1768 22069 20261 48576 18360 11467 41271 4129 3453 130 11199 1296 29098 41342 8591
    8209 265 3706 45842 2821 13409 48710 17891 356 46093 45971 3635 16248 2912 4782 48623
"""


@pytest.mark.parametrize(("tag", "slot"), [("123456789", 0x31C3), ("foo", 12182), ("hello", 866), ("", 0)])
def test_hash_slots_are_those_of_redis_cluster(tag: str, slot: int) -> None:
    assert hash_slot(tag) == slot


def test_the_tags_of_32_partitions_never_change() -> None:
    assert tags(32) == tuple(TAGS_OF_32.split())


@pytest.mark.parametrize("partitions", [1, 2, 3, 32, 100, 256])
def test_tags_are_spread_evenly_over_the_hash_slots(partitions: int) -> None:
    slots = [hash_slot(tag) for tag in tags(partitions)]
    assert slots == [i * HASH_SLOTS // partitions for i in range(partitions)]


def ranges(primaries: int) -> list[range]:
    """The hash slots that ``redis-cli --cluster create`` gives to each primary."""
    ends = [int(HASH_SLOTS * (n + 1) / primaries - 1 + 0.5) for n in range(primaries)]
    return [range(before + 1, end + 1) for before, end in zip([-1, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    ("partitions", "primaries"),
    [(32, 2), (32, 3), (32, 4), (32, 5), (64, 6), *((10 * n, n) for n in range(2, 101, 7))],
)
def test_no_primary_of_a_cluster_has_a_tenth_more_or_less_than_its_share(partitions, primaries) -> None:
    slots = [hash_slot(tag) for tag in tags(partitions)]
    served = [sum(slot in one for slot in slots) for one in ranges(primaries)]
    assert sum(served) == partitions
    share = partitions / primaries
    assert max(served) <= 1.1 * share
    assert min(served) >= 0.9 * share


@pytest.mark.parametrize("partitions", [0, -1, 1025])
def test_a_number_of_partitions_out_of_bounds_is_refused(partitions: int) -> None:
    with pytest.raises(ValueError, match="use 1 to 1024"):
        tags(partitions)


@pytest.mark.parametrize(("call_id", "partition"), [("call-42", 10), ("a", 3), ("~", 22)])
def test_a_call_keeps_its_partition(call_id: str, partition: int) -> None:
    assert partition_of(call_id, 32) == partition


@given(st.text("abc0189._~:@+-", min_size=1, max_size=128), st.integers(1, 1024))
def test_every_call_has_a_partition(call_id: str, partitions: int) -> None:
    assert 0 <= partition_of(call_id, partitions) < partitions


def test_calls_with_like_names_are_spread() -> None:
    calls = [partition_of(f"call-{i}", 32) for i in range(3200)]
    assert max(calls.count(partition) for partition in range(32)) < 200
    assert min(calls.count(partition) for partition in range(32)) > 50
