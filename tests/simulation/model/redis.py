"""Redis: runs the scripts, to their end or cut off before it, and judges what each has done."""

from typing import NamedTuple

from simulation.model.partition import LIVE, NOBODY, Partition, Process
from simulation.model.rules import Rules
from simulation.model.run import Asked, Run, carry_out
from simulation.model.scripts import SCRIPTS


class Outcome(NamedTuple):
    """What a script did: the partition after it, its answer, and how it broke a promise, if it did."""

    after: Partition
    status: str
    fence: int
    broken: str
    commands: int


class Redis:
    """Runs scripts, each kind of run once."""

    def __init__(self, rules: Rules, processes: tuple[Process, ...]) -> None:
        self.rules, self.processes = rules, processes
        self._known: dict[tuple, Outcome] = {}

    def run(self, part: Partition, script: str, asked: Asked, time: int, cut: int | None = None) -> Outcome:
        """Run a script at this TIME (in fences); ``cut``: the command before which it is stopped."""
        key = (part, script, asked, time, cut)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._run(part, script, asked, time, cut)
        return known

    def _run(self, part: Partition, script: str, asked: Asked, time: int, cut: int | None) -> Outcome:
        run = Run(part, time, self.rules, self.processes)
        status, fence, *broken = SCRIPTS[script](run, asked)
        additions, records, removals = run.phases
        clock = [(NOBODY, {})] if run.clock else []
        plan = [*additions, *records, *clock, *removals]
        after = carry_out(part, plan if cut is None else plan[:cut], run.counted)
        after = part if after == part else after
        return Outcome(
            after, status, fence, (broken and broken[0]) or self._judge(part, after, script), len(plan)
        )

    def _judge(self, before: Partition, after: Partition, script: str) -> str:
        """What must be true of every change, whoever makes it."""
        for session, (old, new) in enumerate(zip(before.cells, after.cells, strict=True)):
            was, now = old.record, new.record
            if now is None:
                continue
            if was is not None and was.state not in LIVE and now.state in LIVE:
                return f"tombstones: session {session} had ended and lives again"
            if was is None and script == "readopt" and session < before.ended_by:
                return (
                    f"tombstones: session {session} comes back into a call that a younger session has ended"
                )
            if now.state == "active" and (
                new.lease is None or not new.owned >> self.processes[now.owner].instance & 1
            ):
                return f"indexes: session {session} is active, and no index leads to it"
            if now.state == "pending" and not new.pending:
                return f"indexes: session {session} is pending, and no index leads to it"
        known = [cell.record for cell in after.cells if cell.record is not None]
        if known and all(record.state == "yielded" for record in known):
            return "G4: all sessions of the call have yielded"
        return ""
