"""One run of a script: the commands of ``_plan.lua`` and the questions of ``_records.lua`` and ``_endings.lua``.

What a script decides goes into a plan of commands, in phases; :func:`carry_out` does all of it, or a beginning.
"""

from functools import cache
from typing import NamedTuple

from simulation.model.partition import CAP, LIVE, NOBODY, Partition, Process, Record
from simulation.model.rules import Rules

from mediaflow.core.seniority import Standing, precedes


class Asked(NamedTuple):
    """Arguments of a script. ``fence`` and ``flag`` mean what the script says."""

    process: int = NOBODY
    session: int = 0
    fence: int = 0
    flag: int = 0


class Run:
    """One run of a script: what it reads, and its plan."""

    __slots__ = (
        "cells",
        "clock",
        "counted",
        "ended_by",
        "fence",
        "part",
        "phases",
        "processes",
        "records",
        "rules",
        "time",
    )

    def __init__(self, part: Partition, time: int, rules: Rules, processes: tuple[Process, ...]) -> None:
        self.part, self.time, self.rules, self.processes = part, time, rules, processes
        self.cells = part.cells
        self.fence, self.ended_by = part.fence, part.ended_by
        self.records = [cell.record for cell in part.cells]
        # _time.lua: lease_ms = last + clamp(TIME - last TIME, 0, cap)
        self.counted = max(0, min(part.gap, CAP) if rules.lease_time_is_capped else part.gap)
        self.phases: tuple[list, list, list] = ([], [], [])
        self.clock = False

    # -- _plan.lua: what goes into which phase

    def add(self, session: int, **fields: object) -> None:
        phase = self.phases[0 if self.rules.indexes_are_written_first else 2]
        phase.extend((session, {field: value}) for field, value in fields.items())

    def put(self, session: int, record: Record) -> None:
        self.records[session] = record
        self.fence = max(self.fence, record.fence)
        self.phases[1].append((session, {"record": record, "call_fence": self.fence}))

    def mark_ended(self, session: int) -> None:
        if self.ended_by < session:
            self.ended_by = session
            self.phases[1].append((session, {"ended_by": session}))

    def remove(self, session: int, **fields: object) -> None:
        phase = self.phases[2 if self.rules.indexes_are_written_first else 0]
        phase.extend((session, {field: value}) for field, value in fields.items())

    # -- _records.lua, _endings.lua

    def next_fence(self) -> int:
        return max(self.fence + 1, self.time if self.rules.fence_follows_time else 0)

    def has_live_lease(self, session: int) -> bool:
        lease = self.cells[session].lease
        return lease is not None and lease > self.counted

    def lease(self, ttl: int) -> int:
        return self.counted + ttl

    def running_sibling(self, session: int, rank: int | None) -> int:
        """Return the most senior running sibling, NOBODY without one; with a rank: one senior to it."""
        winner = NOBODY
        for sibling, record in enumerate(self.records):
            if sibling == session or record is None or record.state != "active":
                continue
            if self.rules.yield_needs_acceptance and not record.accepted:
                continue
            if rank is not None and not self.is_senior(record.owner, sibling, rank, session):
                continue
            if self.rules.yield_needs_live_lease and not self.has_live_lease(sibling):
                continue
            if winner == NOBODY or is_senior(record.owner, sibling, self.records[winner].owner, winner):
                winner = sibling
        return winner

    def is_senior(self, rank: int, session: int, other_rank: int, other_session: int) -> bool:
        if not self.rules.seniority_is_strict:
            return rank <= other_rank
        return is_senior(rank, session, other_rank, other_session)

    def owned_by(self, record: Record, process: int) -> bool:
        return record.state in LIVE and record.owner == process

    def owned_by_a_successor(self, record: Record, process: int) -> bool:
        """Whether another incarnation of the same instance owns it: they share a set of what is owned."""
        if record.owner == NOBODY or record.state not in LIVE:
            return False
        return self.processes[record.owner].instance == self.processes[process].instance

    def bit(self, process: int) -> int:
        return 1 << self.processes[process].instance

    def finish(self, session: int, state: str) -> None:
        self.put(session, self.records[session]._replace(state=state))
        self.remove(session, lease=None, pending=False)

    def broken_promise(self, session: int, winner: int, rank: int | None) -> str:
        """G4, for a yield of ``session``: judged by the state before it, and not by the rules above."""
        record = self.cells[winner].record
        if record is None or record.state != "active" or not record.accepted:
            return f"G4: session {session} yields to {winner}, which nobody has accepted"
        if not (self.cells[winner].lease or 0) > self.counted:
            return f"G4: session {session} yields to {winner}, whose lease is over"
        if rank is not None and not is_senior(record.owner, winner, rank, session):
            return f"G4: session {session} yields to {winner}, which is not its senior"
        return ""


@cache
def is_senior(rank: int, session: int, other_rank: int, other_session: int) -> bool:
    """Ask :mod:`mediaflow.core.seniority`."""
    return precedes(Standing(str(rank), str(session)), Standing(str(other_rank), str(other_session)))


def carry_out(part: Partition, plan: list, counted: int) -> Partition:
    """Write, command by command."""
    gap, fence, ended_by, cells = part.gap, part.fence, part.ended_by, list(part.cells)
    for session, fields in plan:
        if session == NOBODY:
            # HSET clock: what the leases have left is counted from now on from here.
            gap = 0
            cells = [
                cell._replace(lease=max(0, cell.lease - counted)) if cell.lease and counted else cell
                for cell in cells
            ]
            continue
        wanted = dict(fields)
        fence = wanted.pop("call_fence", fence)
        ended_by = wanted.pop("ended_by", ended_by)
        owned = (cells[session].owned | wanted.pop("own", 0)) & ~wanted.pop("disown", 0)
        cells[session] = cells[session]._replace(owned=owned, **wanted)
    return Partition(gap, fence, ended_by, tuple(cells))
