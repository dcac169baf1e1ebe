"""The watchdog's decisions: when to look, when to hold still, and which instances count as dead.

Three rules carry it.

* *Warm-up* (G8). Expired leases prove nothing while owners could not renew: just after the start, and
  after Redis was away or replaced. One renewal interval must pass, with Redis answering all the while.
* *Keep pace.* Lease time advances by at most a cap between two ticks, so ticks are at most half a cap
  apart; a lease that can expire, a back-off that ends or a hint brings the next one forward.
* *Proof of death.* Only a refused connection to an incarnation that was reached before, or a newer
  incarnation in the registry, proves that a process is gone. Silence never does: that is what leases are for.

What is owed (sweeps of the dead, striking off) stays in the state until it is done: an effect that can
fail is a debt, so a failed one needs no retry of its own. Everything here may be done twice.

Not guaranteed: that the dead are found at once. An instance that was never reached falls under its leases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from mediaflow.core.lease import LEASE_CLOCK_CAP_S

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

TICK_INTERVAL_S = LEASE_CLOCK_CAP_S / 2
"""Longest time between two ticks."""

MIN_TICK_INTERVAL_S = 0.01
"""Shortest time between two ticks: a flood of hints costs no more than this."""

POLL_INTERVAL_S = 0.5
"""Longest time between two looks at the registry."""

MIN_POLL_INTERVAL_S = 0.05
"""Shortest time between two looks at the registry."""

PAUSE_PER_POLL = 4
"""Times the last look's length, what passes before a hint brings on the next: a large fleet's are not all it does."""

QUIET_S = 1.5
"""An instance whose last heartbeat was so old when the registry was read is given nothing, though it has not expired.

It is more than what a living instance leaves between two heartbeats, and less than the two thirds of the shortest
lease after which a silent owner's leases begin to lapse, with room for busy machines on both sides. What an owner
just lost would else be offered to it again, and wait for an acceptance in vain.
"""

REVIVAL_S = 1.0
"""A heartbeat sent so long after the death was found refutes it; an earlier one may have been under way."""

MEMORY_S = 60.0
"""How long a death is remembered once the registry forgot it: a heartbeat under way can put it back."""


class Seen(NamedTuple):
    """An instance as the registry shows it; ``beat_at_s`` is when its last heartbeat came, by our clock."""

    instance_id: str
    incarnation: int
    alive: bool
    beat_at_s: float


class SweepDead(NamedTuple):
    """To do: make pending what incarnations of an instance below ``before_incarnation`` own."""

    instance_id: str
    before_incarnation: int
    reason: str


class StrikeOff(NamedTuple):
    """To do: take an incarnation of an instance off the registry."""

    instance_id: str
    incarnation: int
    reason: str


Duty = SweepDead | StrikeOff


class Answered(NamedTuple):
    """Redis answered; ``generation`` changes when it may be another server, or have lost data."""

    generation: int


class Lost(NamedTuple):
    """Redis could not be reached, or did not answer in time."""


class Hinted(NamedTuple):
    """Something changed: sessions became pending, or (``registry``) an instance came, went or has room.

    ``draining`` is the instance that began to drain, if that is it.
    """

    registry: bool
    draining: str = ""


class Ticked(NamedTuple):
    """A tick was done; ``unfinished``: there was more to sweep or to place than it showed."""

    next_expiry_in_s: float | None
    next_waiting_in_s: float | None
    unfinished: bool


class Polled(NamedTuple):
    """The registry was read, which took ``took_s``."""

    seen: Sequence[Seen]
    took_s: float = 0.0


class Reached(NamedTuple):
    """A connection to the address of this incarnation was accepted."""

    instance_id: str
    incarnation: int


class Refused(NamedTuple):
    """That connection broke, and a new one was refused: nobody listens there any more."""

    instance_id: str
    incarnation: int


class Done(NamedTuple):
    """A duty was carried out."""

    duty: Duty


VigilEvent = Answered | Lost | Hinted | Ticked | Polled | Reached | Refused | Done


class Death(NamedTuple):
    """An incarnation that was found dead, and when."""

    incarnation: int
    found_at_s: float


@dataclass(frozen=True, slots=True)
class Vigil:
    """What the watchdog knows; :func:`step` makes the next one.

    Attributes:
        watch_s: Length of a warm-up: one renewal interval.
        generation: Of the store when it last answered; None while it does not.
        sweep_from_s: When the warm-up is over.
        tick_at_s, poll_at_s: When the next tick and the next look at the registry are due.
        ticked_at_s, polled_at_s: When the last ones were.
        poll_from_s: Before that no hint brings the next look on.
        incarnations: Of the instances in the registry.
        reached: Incarnations that we have been connected to.
        dead: Incarnations that are dead though the registry may show them.
        beats_at_s: When the last heartbeat of each instance came.
        draining_at_s: When we heard of instances that they drain, until the registry shows it.
        owed: What is to be done, in order; of one kind for one instance the newest stands, for it covers the older.
    """

    watch_s: float
    generation: int | None = None
    sweep_from_s: float = 0.0
    tick_at_s: float = 0.0
    poll_at_s: float = 0.0
    ticked_at_s: float = 0.0
    polled_at_s: float = 0.0
    poll_from_s: float = 0.0
    incarnations: Mapping[str, int] = field(default_factory=dict[str, int])
    reached: Mapping[str, int] = field(default_factory=dict[str, int])
    dead: Mapping[str, Death] = field(default_factory=dict[str, Death])
    beats_at_s: Mapping[str, float] = field(default_factory=dict[str, float])
    draining_at_s: Mapping[str, float] = field(default_factory=dict[str, float])
    owed: Mapping[tuple[type[Duty], str], Duty] = field(default_factory=dict[tuple[type[Duty], str], Duty])

    @property
    def duties(self) -> tuple[Duty, ...]:
        """What is to be done, in order."""
        return tuple(self.owed.values())

    def may_sweep(self, now_s: float) -> bool:
        """Tell whether an expired lease proves that its owner did not renew it."""
        return self.generation is not None and now_s >= self.sweep_from_s

    def may_place(self, instance_id: str) -> bool:
        """Tell whether an instance may be given sessions, as far as more is known of it than the registry showed."""
        beat_at_s = self.beats_at_s.get(instance_id)
        if beat_at_s is None or self.polled_at_s - beat_at_s > QUIET_S or instance_id in self.draining_at_s:
            return False
        return not self.is_dead(instance_id)

    def is_dead(self, instance_id: str) -> bool:
        """Tell whether the incarnation that the registry shows was found dead."""
        death = self.dead.get(instance_id)
        return death is not None and self.incarnations.get(instance_id, 0) <= death.incarnation

    def wake_at_s(self) -> float:
        """Return when there is something to do next, if nothing happens before."""
        if self.owed:
            return self.ticked_at_s + MIN_TICK_INTERVAL_S
        return min(self.tick_at_s, self.poll_at_s)


def step(vigil: Vigil, event: VigilEvent, now_s: float) -> Vigil:
    """Take in what happened.

    Args:
        vigil: What was known before.
        event: What happened.
        now_s: The time now, by a clock that never goes back.

    Returns:
        What is known now; its ``duties``, ``wake_at_s()`` and ``may_sweep()`` are what to do about it.
    """
    match event:
        case Answered(generation):
            return _answered(vigil, generation, now_s)
        case Lost():
            return replace(vigil, generation=None)
        case Hinted():
            return _hinted(vigil, event, now_s)
        case Ticked():
            return _ticked(vigil, event, now_s)
        case Polled(seen, took_s):
            return _polled(vigil, seen, took_s, now_s)
        case Reached(instance_id, incarnation):
            if vigil.incarnations.get(instance_id) != incarnation:
                return vigil
            return replace(vigil, reached={**vigil.reached, instance_id: incarnation})
        case Refused(instance_id, incarnation):
            return _refused(vigil, instance_id, incarnation, now_s)
        case Done(duty):
            # A newer duty of its kind, for the same instance, is still to be done.
            return replace(vigil, owed=_without(vigil.owed, _kind(duty))) if _owes(vigil, duty) else vigil


def _answered(vigil: Vigil, generation: int, now_s: float) -> Vigil:
    if generation == vigil.generation:
        return vigil
    return replace(
        vigil,
        generation=generation,
        sweep_from_s=now_s + vigil.watch_s,
        tick_at_s=now_s,
        poll_at_s=now_s,
    )


def _hinted(vigil: Vigil, event: Hinted, now_s: float) -> Vigil:
    tick_at_s = min(vigil.tick_at_s, max(now_s, vigil.ticked_at_s + MIN_TICK_INTERVAL_S))
    poll_at_s = vigil.poll_at_s
    if event.registry:
        poll_at_s = min(poll_at_s, max(now_s, vigil.poll_from_s))
    draining_at_s = vigil.draining_at_s
    if event.draining:
        draining_at_s = {**draining_at_s, event.draining: now_s}
    return replace(vigil, tick_at_s=tick_at_s, poll_at_s=poll_at_s, draining_at_s=draining_at_s)


def _ticked(vigil: Vigil, event: Ticked, now_s: float) -> Vigil:
    wait_s = TICK_INTERVAL_S
    if event.next_waiting_in_s is not None:
        wait_s = min(wait_s, event.next_waiting_in_s)
    if event.next_expiry_in_s is not None and vigil.may_sweep(now_s + event.next_expiry_in_s):
        wait_s = min(wait_s, event.next_expiry_in_s)
    if event.unfinished:
        wait_s = 0.0
    return replace(vigil, ticked_at_s=now_s, tick_at_s=now_s + max(wait_s, MIN_TICK_INTERVAL_S))


def _polled(vigil: Vigil, seen: Sequence[Seen], took_s: float, now_s: float) -> Vigil:
    incarnations = {one.instance_id: one.incarnation for one in seen}
    beats_at_s = {one.instance_id: one.beat_at_s for one in seen}
    restarted = [
        SweepDead(one.instance_id, one.incarnation, "restarted")
        for one in seen
        if vigil.incarnations.get(one.instance_id) != one.incarnation
    ]
    expired = [
        StrikeOff(one.instance_id, one.incarnation, "heartbeat expired")
        for one in seen
        if not one.alive and vigil.may_sweep(now_s)
    ]
    return replace(
        vigil,
        polled_at_s=now_s,
        poll_at_s=now_s + POLL_INTERVAL_S,
        poll_from_s=now_s + max(MIN_POLL_INTERVAL_S, PAUSE_PER_POLL * took_s),
        incarnations=incarnations,
        beats_at_s=beats_at_s,
        # What was heard while the registry was being read, it need not show yet.
        draining_at_s={name: at_s for name, at_s in vigil.draining_at_s.items() if at_s > now_s - took_s},
        reached={name: number for name, number in vigil.reached.items() if incarnations.get(name) == number},
        dead={
            name: death
            for name, death in vigil.dead.items()
            if _still_dead(death, incarnations.get(name), beats_at_s.get(name), now_s)
        },
        owed=_owe(vigil.owed, [*restarted, *expired]),
    )


def _still_dead(death: Death, incarnation: int | None, beat_at_s: float | None, now_s: float) -> bool:
    if incarnation is None or beat_at_s is None:
        return now_s < death.found_at_s + MEMORY_S
    return incarnation <= death.incarnation and beat_at_s < death.found_at_s + REVIVAL_S


def _refused(vigil: Vigil, instance_id: str, incarnation: int, now_s: float) -> Vigil:
    if vigil.reached.get(instance_id) != incarnation:
        return vigil
    died = "process died"
    return replace(
        vigil,
        reached=_without(vigil.reached, instance_id),
        dead={**vigil.dead, instance_id: Death(incarnation, now_s)},
        owed=_owe(
            vigil.owed,
            [SweepDead(instance_id, incarnation + 1, died), StrikeOff(instance_id, incarnation, died)],
        ),
    )


def _owes(vigil: Vigil, duty: Duty) -> bool:
    return vigil.owed.get(_kind(duty)) == duty


def _owe(
    owed: Mapping[tuple[type[Duty], str], Duty], more: Sequence[Duty]
) -> dict[tuple[type[Duty], str], Duty]:
    return {**owed, **{_kind(duty): duty for duty in more}}


def _kind(duty: Duty) -> tuple[type[Duty], str]:
    return type(duty), duty.instance_id


def _without(known: Mapping[_Key, _Value], key: _Key) -> dict[_Key, _Value]:
    """Copy all but one: what a fleet's every member costs, when a thousand of them die at once."""
    left = dict(known)
    left.pop(key, None)
    return left
