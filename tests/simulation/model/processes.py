"""What the processes of instances do, and those who talk to them: clients, and the handlers of users.

Nobody is ever forced to act: that an instance is paused, cut off from Redis or slow is that the others go on
without it.
"""

from collections.abc import Iterator

from simulation.model import owner
from simulation.model.network import Network
from simulation.model.owner import Held
from simulation.model.partition import LIVE, NOBODY, name
from simulation.model.world import DRAINING, Proc, Step, World, with_proc, with_told

from mediaflow.core import tenure


def client_steps(network: Network, world: World, process: int) -> Iterator[Step]:
    """A client asks an instance for the call, or repeats its request (``Instance.place``)."""
    faults = world.faults
    if faults.creates:
        # Session ids sort by time: each new one is younger than all before it.
        session = len(network.sessions) - faults.creates
        part, _ = network.configuration.places[session]
        if not any(cell.record and cell.record.state in LIVE for cell in world.parts[part].cells):
            fewer = world._replace(faults=faults._replace(creates=faults.creates - 1))
            yield from network.ask(fewer, process, session, "create", 0, 0)
            queued, _ = network.apply(fewer, "create", session, NOBODY, 0, 0)
            yield Step(f"{name(process)} queues s{session}", queued)
    for session in network.sessions:
        record = network.record(world, session)
        given = record is not None and record.state == "active" and record.owner == process
        runs = world.procs[process].held[session] is not None
        if given and not runs and session not in network.waits(world, process):
            yield from _take_up(network, world, process, session, record.fence)


def _take_up(network: Network, world: World, process: int, session: int, fence: int) -> Iterator[Step]:
    """Accept an offer, unless it was refused (``Instance._take_up``)."""
    if not (network.rules.refused_is_not_accepted and network.is_refused(world, process, session, fence)):
        yield from network.ask(world, process, session, "accept", fence, 0)


def owner_steps(network: Network, world: World, process: int, proc: Proc) -> Iterator[Step]:
    """A process asks for what its sessions need, and reads its inbox."""
    if proc.stale and network.configuration.notices:
        yield Step(f"{name(process)} meets the new server", network.notice(world, process))
    waits = network.waits(world, process)
    for session in network.sessions:
        told, held = proc.told[session], proc.held[session]
        if told and session not in waits:
            yield from _assignment(network, world, process, session, told)
        if held is None:
            continue
        yield from _handler(network, world, process, session, held)
        if session in waits:
            continue
        match owner.request(held):
            case "renew":
                yield from network.ask(world, process, session, "renew", held.fence, int(held.new_fence))
            case "release" | "fail":
                yield from network.ask(world, process, session, "relinquish", held.fence, 0)
            case script:
                yield from network.ask(world, process, session, script, held.fence, 0)


def _assignment(network: Network, world: World, process: int, session: int, fence: int) -> Iterator[Step]:
    """An assignment in the inbox (``Instance._on_assignment``)."""
    read = with_told(world, process, session, 0)
    if world.procs[process].held[session] is not None:
        yield Step(f"{name(process)} is told of s{session}, which it runs", read)
        return
    yield from _take_up(network, read, process, session, fence)
    if world.faults.refusals:
        fewer = read._replace(faults=world.faults._replace(refusals=world.faults.refusals - 1))
        yield from network.ask(fewer, process, session, "relinquish", fence, 1)


def _handler(network: Network, world: World, process: int, session: int, held: Held) -> Iterator[Step]:
    """The user's coroutine: it finds its lease over, it returns, it is drained. Its writes: see :meth:`judge`."""
    if network.configuration.checks and held.coroutine == "running" and held.left == 0:
        yield Step(
            f"{name(process)}'s handler of s{session} raises LeaseLost",
            network.take(world, process, session, tenure.LeaseOver()),
        )
    faults = world.faults
    if not faults.leaves or held.intent != "hold" or held.coroutine != "running":
        return
    fewer = world._replace(faults=faults._replace(leaves=faults.leaves - 1))
    if network.configuration.completes:
        left = network.take(fewer, process, session, tenure.Returned())
        yield Step(f"{name(process)}'s handler of s{session} returns", left)
    if network.configuration.drains:
        draining = with_proc(
            fewer, process, fewer.procs[process]._replace(state=DRAINING, told=(0,) * len(network.sessions))
        )
        for each in network.sessions:
            # Twice: the coroutine is asked to stop, and has stopped.
            draining = network.take(draining, process, each, tenure.DrainNow())
            draining = network.take(draining, process, each, tenure.LeaseOver())
        yield Step(f"{name(process)} drains", draining)
