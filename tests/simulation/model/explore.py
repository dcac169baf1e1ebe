"""Looks at every state that can be reached, nearest first, so that a counterexample is as short as can be."""

import gc
import time
from typing import NamedTuple

from simulation.model.healing import Healer
from simulation.model.promises import canonical, judge
from simulation.model.protocol import Protocol
from simulation.model.world import Configuration, World


class Found(NamedTuple):
    """What an exploration found. ``trace``: from the beginning to what is broken; empty if nothing is."""

    title: str
    states: int
    steps: int
    healed: int
    seconds: float
    broken: str
    trace: tuple[str, ...]
    complete: bool

    def __str__(self) -> str:
        """Show it to people."""
        seconds = f"{self.seconds:.1f} s{'' if self.complete else ', not all'}"
        lines = [
            f"{self.title}: {self.states} states, {self.steps} steps, {self.healed} healed from, {seconds}"
        ]
        lines += [f"  {number:2}. {line}" for number, line in enumerate(self.trace, 1)]
        if self.broken:
            lines.append(f"  !!  {self.broken}")
        return "\n".join(lines)


def explore(configuration: Configuration, *, most_states: int = 2_000_000) -> Found:
    """Explore until something is broken, or there is nothing left (or ``most_states`` were seen)."""
    began_s = time.process_time()
    enabled = gc.isenabled()
    gc.disable()  # nothing here is a cycle, and looking for them takes half of the time
    try:
        states, steps, healed, broken, trace = _search(Protocol(configuration), most_states)
    finally:
        if enabled:
            gc.enable()
    seconds = time.process_time() - began_s
    return Found(configuration.title, states, steps, healed, seconds, broken, trace, states < most_states)


def _search(protocol: Protocol, most_states: int) -> tuple[int, int, int, str, tuple[str, ...]]:
    first = protocol.start()
    healer = Healer(protocol)
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    edge, steps = [first], 0
    while edge and len(came_from) < most_states:
        reached: list[World] = []
        for world in edge:
            broken = healer.judge(world)
            if broken:
                lines = (*_trace(came_from, world), "everything heals", *healer.trace(world))
                return len(came_from), steps, len(healer.known), broken, lines
            for step in protocol.steps(world):
                steps += 1
                after, broken = (step.after, step.broken) if step.broken else judge(protocol, step.after)
                if broken:
                    lines = (*_trace(came_from, world), step.label)
                    return len(came_from), steps, len(healer.known), broken, lines
                state = canonical(protocol, after)
                if state not in came_from:
                    came_from[state] = (world, step.label)
                    reached.append(state)
        edge = reached
    return len(came_from), steps, len(healer.known), "", ()


def _trace(came_from: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    lines: list[str] = []
    while (step := came_from[world]) is not None:
        world, line = step
        lines.append(line)
    return tuple(reversed(lines))
