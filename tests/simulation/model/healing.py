"""Liveness: from every state, once nothing goes wrong any more, each call is run by exactly one owner.

Healing is a fixed order of turns, as the programs take them: owners ask for what is due, inboxes are read, leases
that nobody renews lapse, the watchdog sweeps and grants. It is done on states without requests under way; those
with some lead to such states. Healed states are remembered, so most are looked at in no time.
"""

from simulation.model import owner
from simulation.model.partition import LIVE, NOBODY, name
from simulation.model.promises import canonical
from simulation.model.protocol import Protocol
from simulation.model.world import ALIVE, DRAINING, Faults, World, with_told

ROUNDS = 12
"""More than any state needs; a call that has not settled by then never will."""


class Healer:
    """Heals states and says what is wrong with the result."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.known: dict[World, str] = {}

    def judge(self, world: World) -> str:
        """Return what is broken after healing, empty if nothing is."""
        if world.net or not any(proc.state == ALIVE for proc in world.procs):
            return ""
        return self._judge(self._calm(world), ROUNDS)

    def trace(self, world: World) -> tuple[str, ...]:
        """Return what healing does, for people."""
        lines: list[str] = []
        world = self._calm(world)
        for _ in range(ROUNDS):
            after = self._round(world, lines)
            if after == world:
                break
            world = after
        return tuple(lines)

    def _calm(self, world: World) -> World:
        """Leave out what has no bearing on what happens from here on."""
        return canonical(
            self.protocol,
            world._replace(
                net=(),
                faults=Faults(),
                high=(0,) * len(world.high),
                snapshot=None,
                parts=tuple(part._replace(gap=0) for part in world.parts),
                lost=True,
            ),
        )

    def _judge(self, world: World, rounds: int) -> str:
        known = self.known.get(world)
        if known is not None:
            return known
        after = self._calm(self._round(world, []))
        if after == world:
            broken = self._settled(world)
        elif not rounds:
            broken = "G4: a call does not come to rest"
        else:
            broken = self._owed(world, after) or self._judge(after, rounds - 1)
        self.known[world] = broken
        return broken

    def _round(self, world: World, lines: list[str]) -> World:
        protocol = self.protocol
        for process, proc in enumerate(world.procs):
            for session in protocol.sessions if proc.state in (ALIVE, DRAINING) else ():
                world = self._turn(world, process, session, lines)
        for session in protocol.sessions:
            record = protocol.record(world, session)
            if record is None or record.state not in LIVE:
                world = self._run(world, "sweep", session, NOBODY, lines)
            elif record.state == "active" and not self._is_kept(world, session):
                world = self._lapse(world, session)
                world = self._run(world, "sweep", session, NOBODY, lines)
            elif record.state == "pending":
                first = next(at for at, proc in enumerate(world.procs) if proc.state == ALIVE)
                world = self._run(world, "assign", session, first, lines)
        return world

    def _turn(self, world: World, process: int, session: int, lines: list[str]) -> World:
        proc = world.procs[process]
        told, held = proc.told[session], proc.held[session]
        script, fence, flag = "", 0, 0
        if told:
            world = with_told(world, process, session, 0)
            script, fence = ("accept", told) if held is None else ("", 0)
        if held is not None:
            wanted = owner.request(held)
            script = "relinquish" if wanted in ("release", "fail") else wanted
            fence, flag = held.fence, int(held.new_fence and script == "renew")
        if not script:
            return world
        self.protocol.look_at_the_clock(world)
        world, outcome = self.protocol.apply(world, script, session, process, fence, flag)
        lines.append(f"{name(process)} {script} s{session} #{fence} -> {outcome.status} #{outcome.fence}")
        return self.protocol.hear(world, process, session, script, flag, (outcome.status, outcome.fence), 0)

    def _run(self, world: World, script: str, session: int, process: int, lines: list[str]) -> World:
        self.protocol.look_at_the_clock(world)
        world, outcome = self.protocol.apply(world, script, session, process, 0, 0)
        lines.append(f"watchdog {script} s{session} -> {outcome.status} #{outcome.fence}")
        if script == "assign" and outcome.status == "assigned":
            world = with_told(world, process, session, outcome.fence)
        return world

    def _is_kept(self, world: World, session: int) -> bool:
        record = self.protocol.record(world, session)
        proc = world.procs[record.owner]
        return proc.state in (ALIVE, DRAINING) and (
            proc.held[session] is not None or proc.told[session] == record.fence
        )

    def _lapse(self, world: World, session: int) -> World:
        part, place = self.protocol.configuration.places[session]
        old = world.parts[part]
        cell = old.cells[place]
        if not cell.lease:
            return world
        cells = (*old.cells[:place], cell._replace(lease=0), *old.cells[place + 1 :])
        parts = (*world.parts[:part], old._replace(cells=cells), *world.parts[part + 1 :])
        return world._replace(parts=parts)

    def _owed(self, before: World, after: World) -> str:
        """A call that is live in Redis does not vanish: it stays live, or is ended by more than a yield."""
        for part in range(len(before.parts)):
            was = any(cell.record and cell.record.state in LIVE for cell in before.parts[part].cells)
            states = {cell.record.state for cell in after.parts[part].cells if cell.record}
            if was and not states & {*LIVE, "completed", "cancelled"}:
                return "G4: a call that was live is run by nobody after healing"
        return ""

    def _settled(self, world: World) -> str:
        """Nothing changes any more: is it as it should be?"""
        places = self.protocol.configuration.places
        for part in range(len(world.parts)):
            sessions = [session for session in self.protocol.sessions if places[session][0] == part]
            live = [
                s for s in sessions if (r := self.protocol.record(world, s)) is not None and r.state in LIVE
            ]
            holders = [
                (process, session)
                for process, proc in enumerate(world.procs)
                for session in sessions
                if proc.held[session] is not None
            ]
            if len(live) > 1:
                return f"G4: sessions {live} of one call stay live beside each other"
            expected = [(self.protocol.record(world, s).owner, s) for s in live]
            if holders != expected:
                return f"G4: {expected} should run it (process, session), {holders} do"
            for process, session in holders:
                held, record = world.procs[process].held[session], self.protocol.record(world, session)
                if held.coroutine != "running" or held.fence != record.fence or not held.left:
                    return f"G4: {name(process)} owns session {session} and does not get on with it"
        return ""
