"""What must be true of every state: G3 and G4, as far as one moment shows them; and states made comparable.

What concerns one run of a script (a yield, a tombstone, an index) is judged where it runs, in ``redis.py``.
"""

from simulation.model.partition import LIVE, NOBODY, Partition, name
from simulation.model.protocol import Protocol
from simulation.model.world import Proc, World, fences


def judge(protocol: Protocol, world: World) -> tuple[World, str]:
    """Let every handler write that can, and return the world with the fences of these writes, or what is broken.

    To write as early as possible is the worst that a handler can do: any write that comes later under a lower fence
    is seen then. Without a loss of data, also a write that was under way for long counts: its fence is the record's.
    """
    high = world.high
    for session, (part, place) in enumerate(protocol.configuration.places):
        running = [
            (process, held)
            for process, proc in enumerate(world.procs)
            if (held := proc.held[session]) is not None and held.coroutine == "running"
        ]
        if len(running) > 1 and not world.lost and (broken := _effects(protocol, world, running, session)):
            return world, broken
        record = world.parts[part].cells[place].record
        if record is None or record.state not in LIVE:
            continue
        if not world.lost and record.fence < high[session]:
            return (
                world,
                f"G3: s{session} is owned under #{record.fence}, after a write under #{high[session]}",
            )
        for process, held in running:
            if (
                not held.left
                or protocol.apply(world, "write", session, process, held.fence, 0)[1].status != "written"
            ):
                continue
            broken = _write(protocol, world, session, process, high)
            if broken:
                return world, broken
            if held.fence > high[session]:
                high = (*high[:session], held.fence, *high[session + 1 :])
    return (world if high is world.high else world._replace(high=high)), ""


def _effects(protocol: Protocol, world: World, running: list, session: int) -> str:
    """Nothing is done after a passed ``session.check()`` while a later owner has started, unless data was lost.

    Not promised to a process whose instance id a newer one uses: it is swept at once, and told to drain.
    """
    superseded = protocol.superseded(world)
    for process, held in running:
        for other, newer in running:
            if held.left and newer.fence > held.fence and process not in superseded:
                return (
                    f"G3: session.check() of s{session} passes at {name(process)} (#{held.fence}), "
                    f"and {name(other)} has started it (#{newer.fence})"
                )
    return ""


def _write(protocol: Protocol, world: World, session: int, process: int, high: tuple[int, ...]) -> str:
    fence = world.procs[process].held[session].fence
    if world.behind and world.lost:
        return ""
    write = f"a write of {name(process)} to s{session} under #{fence} is accepted"
    if fence < high[session]:
        return f"G3: {write}, after one under #{high[session]}"
    for other, proc in enumerate(world.procs):
        newer = proc.held[session]
        if other != process and newer is not None and newer.fence > fence:
            return f"G3: {write}; {name(other)} is its newer owner"
    part = protocol.configuration.places[session][0]
    for sibling, place in enumerate(protocol.configuration.places):
        # Siblings exist only where data was lost; between them fences are in order again once all but one yielded.
        if place[0] == part and not world.lost and fence < high[sibling]:
            return f"G3: {write}, after one to s{sibling} under #{high[sibling]}"
    return ""


def canonical(protocol: Protocol, world: World) -> World:
    """Return the state by which all states stand that behave alike.

    Forgotten is what nothing can tell apart any more. Fences are renumbered from 1: only their order matters, and
    where they are counted up also whether they are close.
    """
    world = _forget(protocol, world)
    counted = world.behind or not protocol.rules.fence_follows_time
    found = sorted(fences(world))
    least = 0 if counted else _least(world)
    if found[-1] == len(found) - 1 and least <= 2:
        return world
    step, new, last = (3 if counted else 1), {0: 0}, 0
    for fence in found[1:]:
        new[fence] = 1 if fence < least else new[last] + min(step, fence - last)
        last = fence
    return world if all(old == fence for old, fence in new.items()) else _renumber(world, new)


def _least(world: World) -> int:
    """Return the least fence that a record has or can get back; all below it are just too old."""
    return min(
        (
            cell.record.fence
            for parts in (world.parts, world.snapshot or ())
            for part in parts
            for cell in part.cells
            if cell.record is not None
        ),
        default=0,
    )


def _forget(protocol: Protocol, world: World) -> World:
    parts, procs, net, faults, high, lost, behind, snapshot = world
    asking = {one.fence for one in net}
    for proc in procs:
        asking.update(proc.told)
        asking.update(held.fence for held in proc.held if held is not None)
    parts = tuple(_forget_operations(protocol, part, asking) for part in parts)
    newest = _fences_of_records(protocol, parts)
    oldest = _fences_of_records(protocol, snapshot) if snapshot else newest
    if protocol.rules.accept_looks_at_the_fence:
        # Only these can be accepted: an older assignment is one of nothing.
        procs = tuple(_forget_assignments(proc, newest, oldest) if any(proc.told) else proc for proc in procs)
    if not world.behind and protocol.rules.fence_follows_time and protocol.rules.write_looks_at_the_fence:
        procs = tuple(_forget_former_owners(proc, newest, oldest) for proc in procs)
    if not protocol.loses:
        high = newest
    elif not world.behind and protocol.rules.fence_follows_time:
        # A write matters until nothing older can be written any more.
        high = tuple(
            fence if fence > new or fence > old else 0
            for fence, new, old in zip(high, newest, oldest, strict=True)
        )
    return World(parts, procs, net, faults, high, lost, behind, snapshot)


def _forget_operations(protocol: Protocol, part: Partition, asking: set[int]) -> Partition:
    """What a hash keeps for repeated requests matters while somebody can repeat them; stale indexes of owners never."""
    cells = part.cells
    for at, cell in enumerate(cells):
        record, _, _, owned, relinquished = cell
        if record is None:
            continue
        fresh = cell
        if relinquished[1] and relinquished[1] != record.fence and relinquished[1] not in asking:
            fresh = fresh._replace(relinquished=("", 0))
        # Sweeps of the dead may ask for any session here, so the sets of owners are only looked at for what they lack.
        wanted = owned if record.owner != NOBODY and record.state in LIVE else 0
        if wanted & (wanted - 1):
            wanted &= 1 << protocol.configuration.processes[record.owner].instance
        if fresh.owned != wanted:
            fresh = fresh._replace(owned=wanted)
        if fresh is not cell:
            cells = (*cells[:at], fresh, *cells[at + 1 :])
    return part if cells is part.cells else part._replace(cells=cells)


def _forget_former_owners(proc: Proc, newest: tuple[int, ...], oldest: tuple[int, ...]) -> Proc:
    """How long ago it was that a former owner had the session makes no difference."""
    for session, held in enumerate(proc.held):
        if held is not None and 1 < held.fence < newest[session] and held.fence < oldest[session]:
            older = (*proc.held[:session], held._replace(fence=1), *proc.held[session + 1 :])
            proc = proc._replace(held=older)
    return proc


def _fences_of_records(protocol: Protocol, parts: tuple[Partition, ...]) -> tuple[int, ...]:
    records = [parts[part].cells[place].record for part, place in protocol.configuration.places]
    return tuple(record.fence if record is not None else 0 for record in records)


def _forget_assignments(proc: Proc, newest: tuple[int, ...], oldest: tuple[int, ...]) -> Proc:
    told = tuple(
        fence if fence in (new, old) else 0 for fence, new, old in zip(proc.told, newest, oldest, strict=True)
    )
    return proc if told == proc.told else proc._replace(told=told)


def _renumber(world: World, new: dict[int, int]) -> World:
    def part(old):
        cells = tuple(
            cell._replace(
                record=cell.record and cell.record._replace(fence=new[cell.record.fence]),
                relinquished=(cell.relinquished[0], new[cell.relinquished[1]]),
            )
            for cell in old.cells
        )
        return old._replace(fence=new[old.fence], cells=cells)

    return world._replace(
        parts=tuple(part(one) for one in world.parts),
        procs=tuple(
            proc._replace(
                held=tuple(held and held._replace(fence=new[held.fence]) for held in proc.held),
                told=tuple(new[fence] for fence in proc.told),
            )
            for proc in world.procs
        ),
        net=tuple(
            one._replace(fence=new[one.fence], answer=one.answer and (one.answer[0], new[one.answer[1]]))
            for one in world.net
        ),
        high=tuple(new[fence] for fence in world.high),
        snapshot=world.snapshot and tuple(part(one) for one in world.snapshot),
    )
