"""The protocol: where a configuration begins, and every step that can be next."""

from collections.abc import Iterator

from simulation.model import faults, owner, processes, watchdog
from simulation.model.network import Network
from simulation.model.partition import NOBODY, Cell, Partition
from simulation.model.world import ABSENT, ALIVE, DRAINING, Proc, Step, World, lose, with_held


class Protocol(Network):
    """Makes the steps of a configuration."""

    def start(self) -> World:
        """Return the beginning: Redis is empty."""
        configuration = self.configuration
        counts = [0] * (1 + max(part for part, _ in configuration.places))
        for part, _ in configuration.places:
            counts[part] += 1
        nothing = (None,) * len(configuration.places), (0,) * len(configuration.places)
        world = World(
            parts=tuple(Partition(0, 0, -1, (Cell(),) * count) for count in counts),
            procs=tuple(Proc(ALIVE if here else ABSENT, False, *nothing) for here in configuration.present),
            net=(),
            faults=configuration.faults,
            high=(0,) * len(configuration.places),
        )
        if configuration.forgotten_by == NOBODY:
            return world
        return lose(
            with_held(world, configuration.forgotten_by, 0, owner.begin(1, 0, self._extra)), world.parts
        )

    def steps(self, world: World) -> Iterator[Step]:
        """Give every step that can be next."""
        self.look_at_the_clock(world)
        for process, proc in enumerate(world.procs):
            if proc.state == ALIVE:
                yield from processes.client_steps(self, world, process)
            if proc.state in (ALIVE, DRAINING):
                yield from processes.owner_steps(self, world, process, proc)
        yield from self.messages(world)
        yield from watchdog.steps(self, world)
        yield from faults.steps(self, world)
        yield from faults.time_steps(self, world)
