"""All that there is at one moment: a state, what is to be explored from it, and states made from it."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from simulation.model.owner import STOP_AFTER, Held
from simulation.model.partition import NOBODY, Partition, Process
from simulation.model.rules import Rules

ABSENT, ALIVE, DRAINING, DEAD = "absent", "alive", "draining", "dead"
UNBOUNDED = -1


class Proc(NamedTuple):
    """A process: ``told`` are the fences of assignments in its inbox, by session (0: none).

    ``stale``: its next answer will come from a server that it has not met yet.
    """

    state: str
    stale: bool
    held: tuple[Held | None, ...]
    told: tuple[int, ...]


class Message(NamedTuple):
    """A slow request. ``answer``: once it is applied. ``awaited``: its sender still waits.

    ``age``: ticks since it was sent. ``met``: it was answered by the server that is there now.
    """

    process: int
    session: int
    script: str
    fence: int
    flag: int
    answer: tuple[str, int] | None = None
    age: int = 0
    awaited: bool = True
    met: bool = True


class Faults(NamedTuple):
    """How often each may still happen; also what clients and handlers may still do."""

    creates: int = 0
    crashes: int = 0
    slow: int = 0
    emptied: int = 0
    rollbacks: int = 0
    jumps_forward: int = 0
    jumps_back: int = 0
    cuts: int = 0
    leaves: int = 0
    refusals: int = 0
    grants: int = UNBOUNDED


class World(NamedTuple):
    """A state. ``high``: the highest fence of an accepted write, by session. ``snapshot``: what a rollback brings back.

    ``lost``: Redis has lost data. ``behind``: its clock was set back behind the fences.
    """

    parts: tuple[Partition, ...]
    procs: tuple[Proc, ...]
    net: tuple[Message, ...]
    faults: Faults
    high: tuple[int, ...]
    lost: bool = False
    behind: bool = False
    snapshot: tuple[Partition, ...] | None = None


class Configuration(NamedTuple):
    """What is explored: who there is, and what may happen.

    ``forgotten_by``: begin where Redis has just forgotten session 0, which this process owns.
    ``places``: partition and place in it, by session. ``timed``: time is counted in ticks, else leases just lapse.
    """

    title: str
    faults: Faults
    processes: tuple[Process, ...]
    places: tuple[tuple[int, int], ...]
    present: tuple[bool, ...]
    forgotten_by: int = NOBODY
    timed: bool = False
    checks: bool = True
    completes: bool = False
    drains: bool = False
    cancels: bool = False
    notices: bool = False
    rules: Rules = Rules()


class Step(NamedTuple):
    """Something that can happen: how it is told, what is then, and how it breaks a promise (empty: it does not)."""

    label: str
    after: World
    broken: str = ""


def fences(world: World) -> set[int]:
    """Return all fences that anyone has heard of, and 0."""
    found = {0, *world.high}
    for part in world.parts:
        found |= _fences_of_part(part)
    for part in world.snapshot or ():
        found |= _fences_of_part(part)
    for proc in world.procs:
        found |= _fences_of_proc(proc)
    for one in world.net:
        found.add(one.fence)
        if one.answer is not None:
            found.add(one.answer[1])
    return found


@cache
def _fences_of_part(part: Partition) -> frozenset[int]:
    found = {part.fence}
    for record, _, _, _, relinquished in part.cells:
        found |= {relinquished[1], record.fence if record is not None else 0}
    return frozenset(found)


@cache
def _fences_of_proc(proc: Proc) -> frozenset[int]:
    return frozenset((*proc.told, *(held.fence for held in proc.held if held is not None)))


def with_proc(world: World, process: int, proc: Proc) -> World:
    """Replace a process."""
    parts, procs, net, faults, high, lost, behind, snapshot = world
    procs = (*procs[:process], proc, *procs[process + 1 :])
    return World(parts, procs, net, faults, high, lost, behind, snapshot)


def with_part(world: World, number: int, part: Partition) -> World:
    """Replace a partition."""
    parts, procs, net, faults, high, lost, behind, snapshot = world
    parts = (*parts[:number], part, *parts[number + 1 :])
    return World(parts, procs, net, faults, high, lost, behind, snapshot)


def with_held(world: World, process: int, session: int, held: Held | None) -> World:
    """Replace a tenure."""
    proc = world.procs[process]
    if proc.held[session] == held:
        return world
    replaced = (*proc.held[:session], held, *proc.held[session + 1 :])
    return with_proc(world, process, Proc(proc.state, proc.stale, replaced, proc.told))


def with_told(world: World, process: int, session: int, fence: int) -> World:
    """Put an assignment into an inbox, in place of an older one, or take it out."""
    proc = world.procs[process]
    return with_proc(
        world, process, proc._replace(told=(*proc.told[:session], fence, *proc.told[session + 1 :]))
    )


def with_gap(world: World, change: Callable[[int], int]) -> World:
    """Move the wall clock of Redis."""
    return world._replace(parts=tuple(part._replace(gap=change(part.gap)) for part in world.parts))


def grow_old(world: World, session: int | None, ticks: int) -> World:
    """Let time pass for owners and requests, of one session or of all."""
    procs = tuple(
        proc._replace(
            held=tuple(
                held._replace(left=max(0, held.left - ticks)) if held and session in (None, at) else held
                for at, held in enumerate(proc.held)
            )
        )
        for proc in world.procs
    )
    net = tuple(
        one._replace(age=min(STOP_AFTER, one.age + ticks))
        if one.awaited and session in (None, one.session)
        else one
        for one in world.net
    )
    return world._replace(procs=procs, net=net)


def lose(world: World, parts: tuple[Partition, ...]) -> World:
    """Put other data in place of what Redis has. Connections break: what was not applied yet never will be."""
    procs = tuple(proc._replace(stale=proc.state == ALIVE) for proc in world.procs)
    net = tuple(one._replace(met=False) for one in world.net if one.answer is not None)
    return world._replace(parts=parts, procs=procs, net=net, lost=True)
