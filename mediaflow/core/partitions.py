"""The shards of the key space: which partition a call belongs to, and the hash tag of each.

All keys of a partition share one hash tag, so one script can touch them atomically, on one
Redis and on Redis Cluster alike. Tags do not depend on the namespace.
"""

import binascii
import functools
import zlib

HASH_SLOTS = 16384
MAX_PARTITIONS = 1024


def partition_of(call_id: str, partitions: int) -> int:
    """Return the number of the partition that ``call_id`` belongs to."""
    return zlib.crc32(call_id.encode()) % partitions


def hash_slot(tag: str) -> int:
    """Return the Redis Cluster hash slot of a hash tag (CRC16/XMODEM, as in the cluster specification)."""
    return binascii.crc_hqx(tag.encode(), 0) % HASH_SLOTS


@functools.cache
def tags(partitions: int) -> tuple[str, ...]:
    """Return the hash tag of each partition; their hash slots are evenly spaced over all 16,384.

    The same number of partitions always gives the same tags: they are the smallest decimal
    numbers that hash to ``i * 16384 // partitions``.

    Raises:
        ValueError: ``partitions`` is not within 1..1024.
    """
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise ValueError(f"partitions = {partitions}: use 1 to {MAX_PARTITIONS}")
    wanted = {i * HASH_SLOTS // partitions: i for i in range(partitions)}
    found = [""] * partitions
    number = 0
    while wanted:
        index = wanted.pop(hash_slot(str(number)), None)
        if index is not None:
            found[index] = str(number)
        number += 1
    return tuple(found)
