"""Who serves which hash slot, as a cluster tells it."""

import pytest

from mediaflow.core.partitions import HASH_SLOTS
from mediaflow.store.slots import Address, SlotMap, slot_of

ASKED = Address("10.0.0.9", 7000)
REPLY = [
    [0, 5460, [b"10.0.0.1", 6379, b"id-1", []], [b"10.0.0.4", 6379, b"id-4", []]],
    [5461, 10922, [b"", 6380, b"id-2", []]],
    [10924, 16383, [None, 6381, b"id-3", []]],
]


def test_each_slot_is_at_the_primary_of_its_range_and_an_open_host_is_that_of_who_was_asked():
    slots = SlotMap()
    assert slots.primaries() == []
    slots.read(REPLY, ASKED)
    assert slots.primary(0) == slots.primary(5460) == Address("10.0.0.1", 6379)
    assert slots.primary(5461) == slots.primary(10922) == Address("10.0.0.9", 6380)
    assert slots.primary(10923) is None, "nobody serves it"
    assert slots.primary(16383) == Address("10.0.0.9", 6381)
    assert slots.primaries() == [
        Address("10.0.0.1", 6379),
        Address("10.0.0.9", 6380),
        Address("10.0.0.9", 6381),
    ]


def test_a_redirection_moves_one_slot_and_what_the_cluster_says_later_replaces_it():
    slots = SlotMap()
    slots.read(REPLY, ASKED)
    slots.move(7, Address("::1", 6399))
    assert [str(slots.primary(slot)) for slot in (6, 7, 8)] == [
        "10.0.0.1:6379",
        "[::1]:6399",
        "10.0.0.1:6379",
    ]
    slots.read(REPLY, ASKED)
    assert slots.primary(7) == Address("10.0.0.1", 6379)


@pytest.mark.parametrize(
    ("key", "slot"),  # as CLUSTER KEYSLOT says
    [
        ("foo", 12182),
        ("mediaflow:{foo}:call:x", 12182),
        ("{foo}{bar}", 12182),
        ("{}foo", 9500),
        ("foo{", 7673),
    ],
)
def test_the_slot_of_a_key_is_that_of_its_hash_tag_if_it_has_one(key, slot):
    assert slot_of(key) == slot
    assert 0 <= slot < HASH_SLOTS
