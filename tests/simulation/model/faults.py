"""What goes wrong, and time that passes."""

from collections.abc import Iterator

from simulation.model.network import Network
from simulation.model.partition import BEFORE, CAP, LONG, NOBODY, Cell, Partition, name
from simulation.model.world import (
    ABSENT,
    ALIVE,
    DEAD,
    DRAINING,
    Proc,
    Step,
    World,
    grow_old,
    lose,
    with_gap,
    with_proc,
)


def steps(network: Network, world: World) -> Iterator[Step]:
    """Whatever there is still a budget for."""
    faults = world.faults
    for process, proc in enumerate(world.procs):
        if proc.state == ABSENT:
            yield Step(f"{name(process)} starts", with_proc(world, process, proc._replace(state=ALIVE)))
        if proc.state in (ALIVE, DRAINING) and faults.crashes:
            gone = Proc(DEAD, False, (None,) * len(proc.held), (0,) * len(proc.told))
            net = tuple(
                one._replace(awaited=False, age=0) if one.process == process else one
                for one in world.net
                if one.process != process or one.answer is None
            )
            after = with_proc(world, process, gone)
            after = after._replace(net=net, faults=faults._replace(crashes=faults.crashes - 1))
            yield Step(f"{name(process)} crashes", after)
    if faults.emptied and any(part.fence for part in world.parts):
        empty = tuple(Partition(0, 0, -1, (Cell(),) * len(part.cells)) for part in world.parts)
        after = lose(world, empty)._replace(faults=faults._replace(emptied=faults.emptied - 1))
        yield Step("Redis restarts empty", after)
    if faults.rollbacks and world.snapshot is None and any(part.fence for part in world.parts):
        yield Step("the replica falls behind from here", world._replace(snapshot=world.parts))
    if faults.rollbacks and world.snapshot not in (None, world.parts):
        after = lose(world, world.snapshot)
        after = after._replace(snapshot=None, faults=faults._replace(rollbacks=faults.rollbacks - 1))
        yield Step("Redis fails over to the replica that fell behind", after)
    if faults.jumps_forward:
        after = with_gap(world, lambda _: _clip(network, LONG))
        yield Step(
            "the clock of Redis jumps forward",
            after._replace(faults=faults._replace(jumps_forward=faults.jumps_forward - 1)),
        )
    if faults.jumps_back:
        after = with_gap(world, lambda _: BEFORE)._replace(behind=True)
        yield Step(
            "the clock of Redis is set back",
            after._replace(faults=faults._replace(jumps_back=faults.jumps_back - 1)),
        )


def _clip(network: Network, gap: int) -> int:
    """Return a gap as far as it makes a difference."""
    return min(gap, CAP if network.rules.lease_time_is_capped else LONG)


def time_steps(network: Network, world: World) -> Iterator[Step]:
    """A second passes, or a lease lapses."""
    if network.configuration.timed:
        after = with_gap(world, lambda gap: gap if gap == BEFORE else _clip(network, gap + 1))
        yield Step("a second passes", grow_old(after, None, 1))
        for part in range(len(world.parts)):
            session = next(s for s in network.sessions if network.configuration.places[s][0] == part)
            after, _ = network.apply(world, "tick", session, NOBODY, 0, 0)
            yield Step("watchdog ticks", after)
        return
    for session in network.sessions:
        part, place = network.configuration.places[session]
        cell = world.parts[part].cells[place]
        if not cell.lease:
            continue
        # Time enough passes: the owner distrusts the lease before it is over, which the timed configurations prove.
        cells = world.parts[part].cells
        cells = (*cells[:place], cell._replace(lease=0), *cells[place + 1 :])
        parts = (*world.parts[:part], world.parts[part]._replace(cells=cells), *world.parts[part + 1 :])
        yield Step(f"the lease of s{session} lapses", grow_old(world._replace(parts=parts), session, LONG))
