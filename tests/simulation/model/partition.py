"""One call in its partition: what Redis holds of it, and the processes that ask for it.

Numbers are relative, so that the space is finite: a lease is what is left of it, counted from the lease time that
the clock last recorded; ``gap`` is how far the wall clock is from the one recorded beside it.
"""

from typing import NamedTuple

TTL, ACCEPT_TTL, CAP = 3, 1, 1
"""In ticks of a second: the shortest lease that is allowed, and the largest step of its clock."""

BEFORE = -1
"""A gap: the wall clock was set back behind the recorded one."""

LONG = TTL + 1
"""A gap that no lease outlives; larger ones are not told apart."""

NOBODY = -1
LIVE = ("active", "pending")


class Record(NamedTuple):
    """An ownership record (``_records.lua``); the rank is that of the owner."""

    state: str
    owner: int
    accepted: bool
    fence: int


class Cell(NamedTuple):
    """One session: its record, its places in the indexes, and what its own hash keeps of operations.

    ``lease``: None without one, else what is left. ``owned``: the instances whose set has it, as bits.
    ``relinquished``: (kind, fence) of the last time that it was given up.
    """

    record: Record | None = None
    lease: int | None = None
    pending: bool = False
    owned: int = 0
    relinquished: tuple[str, int] = ("", 0)


class Partition(NamedTuple):
    """What Redis holds of one call: clock, last fence, which session ended it (-1: none), and its sessions."""

    gap: int
    fence: int
    ended_by: int
    cells: tuple[Cell, ...]


class Process(NamedTuple):
    """An incarnation of an instance; processes are numbered by their rank, the oldest first."""

    instance: int
    incarnation: int


def name(process: int) -> str:
    """Return what a process is called in traces."""
    return "nobody" if process == NOBODY else "ABC"[process]
