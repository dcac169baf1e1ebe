"""Which instance gets a session: weighted by free slots, minus what is already on its way there.

Invariants: nobody is given more than the room it is believed to have, the oldest waiting
session is placed first, and a draw always gives the same choice.

Not guaranteed: that the room is there. Free slots are as old as the last heartbeat, and others
place too; the instance alone decides, and refuses what is one too many. Drawing at random,
instead of taking the emptiest, keeps several placers with the same figures from all hitting
the same instance (Mitzenmacher 2000, "How useful is old information?").
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from mediaflow.core.urn import Urn

_Item = TypeVar("_Item")


class Candidate(NamedTuple):
    """An instance that may be given sessions, and for how many it is believed to have room."""

    instance_id: str
    free: int


class Flight(NamedTuple):
    """Sessions that were given to an instance and that no heartbeat of it has shown yet.

    ``sent_at_s`` was read before the request.
    """

    instance_id: str
    sessions: int
    sent_at_s: float


def place(
    waiting: Iterable[_Item], candidates: Iterable[Candidate], draws: Iterator[float]
) -> list[tuple[_Item, str]]:
    """Give each waiting session an instance while there is room; each placement takes a slot off.

    Args:
        waiting: Oldest first.
        candidates: One entry an instance.
        draws: Numbers from [0, 1), at least one for each session that is placed.

    Returns:
        Pairs of a waiting session and the id of its instance, in the order of ``waiting``; what found no
        room is not in it.
    """
    urn = Urn(candidates)
    placed: list[tuple[_Item, str]] = []
    for item in itertools.islice(waiting, urn.total):
        chosen = urn.draw(next(draws))
        if chosen is None:
            break
        placed.append((item, chosen))
        urn.add(chosen, -1)
    return placed


def discount(candidates: Iterable[Candidate], flights: Iterable[Flight]) -> list[Candidate]:
    """Take what is on its way off each candidate's free slots; nobody goes below zero."""
    under_way: dict[str, int] = {}
    for flight in flights:
        under_way[flight.instance_id] = under_way.get(flight.instance_id, 0) + flight.sessions
    return [
        Candidate(candidate.instance_id, max(0, candidate.free - under_way.get(candidate.instance_id, 0)))
        for candidate in candidates
    ]


def settle(
    flights: Iterable[Flight], beats_at_s: Mapping[str, float], now_s: float, accept_ttl_s: float
) -> tuple[Flight, ...]:
    """Drop the flights that ended: shown by a later heartbeat, or not accepted in time.

    An instance takes the slot as it reads the assignment, so its next heartbeat shows it. The few
    milliseconds in between are not allowed for: counting twice what a heartbeat shows already would leave
    slots empty until the one after it, while one assignment too many is merely refused.

    A refused session stays in the count until the next heartbeat, on purpose: it proves that the
    instance had less room than it was believed to have, and keeps it from being asked again and again.

    Args:
        flights: What was sent and has not been seen to arrive.
        beats_at_s: When the last heartbeat of each instance was sent, by the clock of ``now_s``; an instance
            that is not in it is no longer registered, and its flights are dropped.
        now_s: The time now.
        accept_ttl_s: After so long an assignment that was not accepted has lapsed.
    """
    return tuple(
        flight
        for flight in flights
        if now_s - flight.sent_at_s < accept_ttl_s
        and beats_at_s.get(flight.instance_id, math.inf) <= flight.sent_at_s
    )
