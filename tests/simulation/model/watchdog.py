"""What the watchdog does, and clients that end a session."""

from collections.abc import Iterator

from simulation.model.network import Network
from simulation.model.partition import LIVE, NOBODY, name
from simulation.model.world import ALIVE, DEAD, UNBOUNDED, Step, World, with_told


def steps(network: Network, world: World) -> Iterator[Step]:
    """Sweeps and grants. Its views may be old: it asks for any session, and the scripts look again."""
    for session in network.sessions:
        record = network.record(world, session)
        if record is None:
            continue
        after, outcome = network.apply(world, "sweep", session, NOBODY, 0, 0)
        yield Step(f"watchdog sweeps s{session} -> {outcome.status}", after, outcome.broken)
        yield from network.cuts(world, "sweep", session, NOBODY, 0, outcome.commands)
        if record.state == "pending" and world.faults.grants:
            for process, proc in enumerate(world.procs):
                if proc.state == ALIVE:
                    yield from _grant(network, world, session, process)
        for process in range(len(world.procs)):
            yield from _sweep_dead(network, world, session, process)
        if record.state in LIVE and network.configuration.cancels and world.faults.leaves:
            fewer = world._replace(faults=world.faults._replace(leaves=world.faults.leaves - 1))
            _, place = network.configuration.places[session]
            after, outcome = network.apply(fewer, "cancel", session, NOBODY, 0, 1 << place)
            yield Step(f"a client ends s{session}", after, outcome.broken)
            yield from network.cuts(fewer, "cancel", session, NOBODY, 1 << place, outcome.commands)


def _grant(network: Network, world: World, session: int, process: int) -> Iterator[Step]:
    if world.faults.grants != UNBOUNDED:
        world = world._replace(faults=world.faults._replace(grants=world.faults.grants - 1))
    after, outcome = network.apply(world, "assign", session, process, 0, 0)
    if outcome.status == "assigned":
        after = with_told(after, process, session, outcome.fence)
    label = f"watchdog assigns s{session} to {name(process)} -> {outcome.status} #{outcome.fence}"
    yield Step(label, after, outcome.broken)
    yield from network.cuts(world, "assign", session, process, 0, outcome.commands)


def _sweep_dead(network: Network, world: World, session: int, process: int) -> Iterator[Step]:
    """Sweep what an incarnation owned that is dead, or that a newer one has superseded."""
    if world.procs[process].state == DEAD or process in network.superseded(world):
        before = network.configuration.processes[process].incarnation + 1
        after, outcome = network.apply(world, "sweep", session, process, 0, before)
        yield Step(
            f"watchdog sweeps s{session} of the dead {name(process)} -> {outcome.status}",
            after,
            outcome.broken,
        )
        yield from network.cuts(world, "sweep", session, process, before, outcome.commands)
