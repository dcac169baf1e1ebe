"""Requests and their answers: asked at once, or slowly, or of a script that is cut off.

A *slow* request stays under way: it is applied at any later time or never, its answer is heard at any later time or
never, and meanwhile everything else happens.
"""

from collections.abc import Iterator

from simulation.model import owner
from simulation.model.owner import STOP_AFTER
from simulation.model.partition import CAP, NOBODY, name
from simulation.model.redis import Outcome, Redis
from simulation.model.run import Asked
from simulation.model.world import (
    ABSENT,
    Configuration,
    Message,
    Step,
    World,
    fences,
    with_held,
    with_part,
    with_proc,
)

from mediaflow.core import tenure


class Network:
    """The way to Redis and back, in one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.rules = configuration.rules
        self.redis = Redis(configuration.rules, configuration.processes)
        self.sessions = range(len(configuration.places))
        self.loses = bool(
            configuration.faults.emptied
            or configuration.faults.rollbacks
            or configuration.forgotten_by != NOBODY
        )
        """Whether data can be lost."""
        self.time = 1
        """TIME of Redis, in fences: above all that anyone has heard of, unless it was set back."""
        self._extra = 0 if self.rules.cap_is_given_away else CAP

    def look_at_the_clock(self, world: World) -> None:
        """Set TIME, before anything is done in this world."""
        self.time = 0 if world.behind else 1 + max(fences(world))

    def apply(
        self,
        world: World,
        script: str,
        session: int,
        process: int,
        fence: int,
        flag: int,
        cut: int | None = None,
    ) -> tuple[World, Outcome]:
        """Run a script of the partition of ``session``."""
        part, place = self.configuration.places[session]
        before = world.parts[part]
        outcome = self.redis.run(before, script, Asked(process, place, fence, flag), self.time, cut)
        if outcome.after is before:
            return world, outcome
        return with_part(world, part, outcome.after), outcome

    def ask(
        self, world: World, process: int, session: int, script: str, fence: int, flag: int
    ) -> Iterator[Step]:
        """Ask Redis: at once, or slowly, or the script is cut off."""
        who = f"{name(process)} {script} s{session}" + (f" #{fence}" if fence else "") + ("*" if flag else "")
        after, outcome = self.apply(world, script, session, process, fence, flag)
        answer = outcome.status + (f" #{outcome.fence}" if outcome.fence else "")
        heard = self.hear(after, process, session, script, flag, (outcome.status, outcome.fence), 0)
        yield Step(f"{who} -> {answer}", heard, outcome.broken)
        faults = world.faults
        if faults.slow:
            sent = Message(process, session, script, fence, flag)
            net = tuple(sorted((*world.net, sent), key=repr))
            yield Step(
                f"{who}, slowly", world._replace(net=net, faults=faults._replace(slow=faults.slow - 1))
            )
        if faults.cuts:
            for cut in range(1, outcome.commands):
                after, outcome = self.apply(world, script, session, process, fence, flag, cut)
                after = after._replace(faults=faults._replace(cuts=faults.cuts - 1))
                yield Step(f"{who}, cut off before command {cut + 1}", after, outcome.broken)

    def hear(
        self,
        world: World,
        process: int,
        session: int,
        script: str,
        flag: int,
        answer: tuple[str, int],
        age: int,
        *,
        met: bool = True,
    ) -> World:
        """Let a process take in an answer; ``met``: it comes from the server that is there now."""
        proc = world.procs[process]
        status, fence = answer
        held = proc.held[session]
        if not self.rules.deadline_from_sending:
            age = 0
        new_server = proc.stale and met and self.rules.new_server_is_asked_for_a_fence
        if script in ("create", "accept"):
            if held is None and status in ("created", "accepted"):
                return self._begin(world, process, session, fence, age, new_server=new_server)
            return world
        if script == "relinquish" and flag:
            return world
        if held is not None:
            event = owner.heard(script, status, fence, age)
            if new_server and not flag and script == "renew" and isinstance(event, tenure.Confirmed):
                event = tenure.ServerChanged()
            world = self.take(world, process, session, event)
        return self.notice(world, process) if new_server else world

    def _begin(
        self, world: World, process: int, session: int, fence: int, age: int, *, new_server: bool
    ) -> World:
        held = owner.begin(fence, age, self._extra)
        if new_server:
            held = owner.begin(fence, STOP_AFTER, 0)
        world = with_held(world, process, session, held)
        return self.notice(world, process) if new_server else world

    def take(self, world: World, process: int, session: int, event: tenure.Event) -> World:
        """Step a tenure; a coroutine that is to start again first asks for its session (``Actor._restart``)."""
        held = world.procs[process].held[session]
        if held is None:
            return world
        after, start = owner.step(held, event, self._extra)
        world = with_held(world, process, session, after)
        if start and after is not None:
            world, outcome = self.apply(world, "accept", session, process, after.fence, 0)
            if outcome.status != "accepted":
                world = self.take(world, process, session, tenure.LeaseOver())
        return world

    def notice(self, world: World, process: int) -> World:
        """Let all actors of a process know that the server is a new one."""
        proc = world.procs[process]
        world = with_proc(world, process, proc._replace(stale=False))
        for session in self.sessions:
            world = self.take(world, process, session, tenure.ServerChanged())
        return world

    def waits(self, world: World, process: int) -> set[int]:
        """Return the sessions for which a process waits for an answer; it asks nothing more about them."""
        return {one.session for one in world.net if one.process == process and one.awaited}

    def is_refused(self, world: World, process: int, session: int, fence: int) -> bool:
        """Tell whether a process has refused an offer; one whose refusal was applied is no longer its own."""
        refusal = (process, session, "relinquish", fence, 1)
        return any(one[: len(refusal)] == refusal for one in world.net)

    def messages(self, world: World) -> Iterator[Step]:
        """Let a slow request be applied, its answer be heard, or its sender give up."""
        for at, one in enumerate(world.net):
            without = world._replace(net=(*world.net[:at], *world.net[at + 1 :]))
            what = f"the slow {one.script} of {name(one.process)} for s{one.session}"
            if one.answer is None:
                after, outcome = self.apply(
                    without, one.script, one.session, one.process, one.fence, one.flag
                )
                if one.awaited:
                    answered = one._replace(fence=0, answer=(outcome.status, outcome.fence))
                    after = after._replace(net=tuple(sorted((*without.net, answered), key=repr)))
                yield Step(f"{what} is applied: {outcome.status} #{outcome.fence}", after, outcome.broken)
            elif one.awaited:
                after = self.hear(
                    without, one.process, one.session, one.script, one.flag, one.answer, one.age, met=one.met
                )
                yield Step(f"{what} is heard: {one.answer[0]} #{one.answer[1]}", after)
            if one.awaited:
                after = self.take(without, one.process, one.session, tenure.Silence())
                if one.answer is None:
                    after = after._replace(
                        net=tuple(sorted((*after.net, one._replace(awaited=False, age=0)), key=repr))
                    )
                yield Step(f"{what} is waited for no longer", after)

    def cuts(
        self, world: World, script: str, session: int, process: int, flag: int, commands: int
    ) -> Iterator[Step]:
        """Cut off a script that another than a process of an instance asked for."""
        if world.faults.cuts:
            fewer = world._replace(faults=world.faults._replace(cuts=world.faults.cuts - 1))
            for cut in range(1, commands):
                after, outcome = self.apply(fewer, script, session, process, 0, flag, cut)
                yield Step(f"{script} of s{session}, cut off before command {cut + 1}", after, outcome.broken)

    def superseded(self, world: World) -> list[int]:
        """Return the processes beside which a newer one has started under the same instance id."""
        started = [
            one
            for one, proc in zip(self.configuration.processes, world.procs, strict=True)
            if proc.state != ABSENT
        ]
        return [
            process
            for process, mine in enumerate(self.configuration.processes)
            if any(one.instance == mine.instance and one.incarnation > mine.incarnation for one in started)
        ]

    def record(self, world: World, session: int):
        """Return the ownership record of a session."""
        part, place = self.configuration.places[session]
        return world.parts[part].cells[place].record
