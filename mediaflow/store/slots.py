"""Which server of a Redis Cluster serves which hash slot, as far as we know: the cluster corrects us when asked."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mediaflow.core.partitions import HASH_SLOTS, hash_slot


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class SlotMap:
    """The primary of each hash slot; nobody knows any at first."""

    def __init__(self) -> None:
        """Begin empty."""
        self._primaries: list[Address | None] = [None] * HASH_SLOTS

    def primary(self, slot: int) -> Address | None:
        """Return who serves a slot, None if nobody is known to."""
        return self._primaries[slot]

    def primaries(self) -> list[Address]:
        """Return all that serve any slot, in order."""
        return sorted({address for address in self._primaries if address is not None})

    def move(self, slot: int, address: Address) -> None:
        """Note what a redirection says."""
        self._primaries[slot] = address

    def read(self, reply: Sequence[Any], asked: Address) -> None:
        """Take over what CLUSTER SLOTS says; ``asked`` stands for a host that the answer leaves open."""
        self._primaries = [None] * HASH_SLOTS
        for first, last, (host, port, *_), *_ in reply:
            name = host.decode() if isinstance(host, bytes) else host
            address = Address(name or asked.host, int(port))
            self._primaries[int(first) : int(last) + 1] = [address] * (int(last) + 1 - int(first))


def slot_of(key: str) -> int:
    """Return the hash slot of a key: of what stands in its first braces, if anything does."""
    _, brace, rest = key.partition("{")
    tag, closing, _ = rest.partition("}")
    return hash_slot(tag if brace and closing and tag else key)
