"""Ten thousand instances and a million sessions in virtual time: the decisions stay balanced, and bounded.

Only core decides here: who is dead (vigil), who gets what (placement). The rest is the plainest world that there is:
an instance beats once a second, takes what it has a slot for at once, and shows it with its next heartbeat.
"""

import math
import random
from collections import Counter

import pytest

from mediaflow.core import placement
from mediaflow.core.placement import Candidate, Flight
from mediaflow.core.urn import Urn
from mediaflow.core.vigil import (
    POLL_INTERVAL_S,
    Answered,
    Done,
    Polled,
    Reached,
    Refused,
    Seen,
    StrikeOff,
    SweepDead,
    Vigil,
    step,
)
from mediaflow.watchdog.watchdog import TICK_LIMIT

PARTITIONS = 32
BATCH = PARTITIONS * TICK_LIMIT
"""What a watchdog places in one turn at most."""

HEARTBEAT_TURNS = 2
"""A turn is a poll, and half of the fleet beats in each."""

ACCEPT_TTL_S = 2.0
ONE_IN_A_MILLION = 1e-6


def spread(instances):
    """How many standard deviations one of so many may be off, but once in a million runs.

    All slots are alike to a draw by free slots, so what an instance holds is hypergeometric: as many of its slots as
    were drawn, without putting back. Its tails are no heavier than a normal's with the same variance (Hoeffding 1963,
    §6), and the worst of n instances is n times as likely (Boole).
    """
    return math.sqrt(2 * math.log(2 * instances / ONE_IN_A_MILLION))


class Fleet:
    """Instances with slots, one watchdog's knowledge of them, and the sessions that wait."""

    def __init__(self, instances, slots, seed=1):
        self.names = [f"media-{number:05}" for number in range(instances)]
        self.slots = slots
        self.random = random.Random(seed)
        self.now_s = 100.0
        self.turn_number = 0
        self.held = dict.fromkeys(self.names, 0)
        self.shown = dict(self.held)
        self.beats_at_s = dict.fromkeys(self.names, self.now_s)
        self.draining = set()
        self.gone = set()
        self.waiting = 0
        self.flights = ()
        self.refused = 0
        self.most_in_flight = 0
        self.draws = 0
        self.swept = Counter()
        self.vigil = Vigil(watch_s=3.3)
        self.tell(Answered(1))
        self.poll()
        for name in self.names:
            self.tell(Reached(name, 7))
        self.discharge()

    def tell(self, event):
        self.vigil = step(self.vigil, event, self.now_s)

    def poll(self):
        self.tell(Polled([Seen(name, 7, True, beat_s) for name, beat_s in self.beats_at_s.items()]))

    def discharge(self):
        """Do what the watchdog owes: what the dead held waits, and they are struck off."""
        for duty in self.vigil.duties:
            match duty:
                case SweepDead(name, before) if before > 7:
                    self.swept[name] += self.held[name]
                    self.waiting += self.held[name]
                    self.held[name] = 0
                case StrikeOff(name):
                    del self.beats_at_s[name]
            self.tell(Done(duty))

    def draw(self):
        while True:
            self.draws += 1
            yield self.random.random()

    def turn(self):
        """One turn: heartbeats, a poll, what is owed, and a batch of placements. Returns how many were placed."""
        self.now_s += POLL_INTERVAL_S
        self.turn_number += 1
        for name in self.names[self.turn_number % HEARTBEAT_TURNS :: HEARTBEAT_TURNS]:
            if name in self.beats_at_s and name not in self.gone:
                self.beats_at_s[name] = self.now_s
                self.shown[name] = self.held[name]
        self.poll()
        self.discharge()
        self.flights = placement.settle(self.flights, self.beats_at_s, self.now_s, ACCEPT_TTL_S)
        roomy = [
            Candidate(name, self.slots - self.shown[name])
            for name in self.beats_at_s
            if name not in self.draining and self.vigil.may_place(name)
        ]
        room = placement.discount(roomy, self.flights)
        placed = placement.place(range(min(self.waiting, BATCH)), room, self.draw())
        self.take(Counter(name for _, name in placed))
        return len(placed)

    def take(self, given):
        self.flights = (
            *self.flights,
            *(Flight(name, number, self.now_s) for name, number in given.items()),
        )
        self.most_in_flight = max(self.most_in_flight, sum(flight.sessions for flight in self.flights))
        for name, number in given.items():
            assert name not in self.gone, "a dead instance was given sessions"
            assert name not in self.draining, "a draining instance was given sessions"
            taken = min(number, self.slots - self.held[name])
            self.refused += number - taken
            self.held[name] += taken
            self.waiting -= taken

    def end_some(self, number):
        """End calls, on instances that are drawn by their sessions."""
        urn = Urn(self.held.items())
        for _ in range(number):
            name = urn.draw(self.random.random())
            urn.add(name, -1)
            self.held[name] -= 1

    def settle(self):
        """Take turns until nobody waits; returns how many."""
        for turns in range(1, 1000):
            self.turn()
            if not self.waiting:
                return turns
        raise AssertionError(f"{self.waiting} sessions still wait")

    def check_balance(self):
        """No instance holds more than its slots, nor is further off the mean than chance allows."""
        held = [self.held[name] for name in self.names if name not in self.gone | self.draining]
        mean = sum(held) / len(held)
        share = mean / self.slots
        deviation = math.sqrt(self.slots * share * (1 - share))
        assert max(held) <= self.slots
        assert max(held) <= mean + spread(len(held)) * deviation
        assert min(held) >= mean - spread(len(held)) * deviation

    def run(self, sessions):
        """Fill it, have a tenth die at once, drain a third of the rest; returns how many placements that took."""
        turns = math.ceil(sessions / BATCH)
        for _ in range(turns):
            self.waiting += BATCH
            self.turn()
            self.end_some(BATCH // 100)
        self.settle()
        self.check_balance()

        dead = self.random.sample(self.names, len(self.names) // 10)
        lost = sum(self.held[name] for name in dead)
        self.gone.update(dead)
        for name in dead:
            self.tell(Refused(name, 7))
        # A batch each turn, and what turned out to be full once more.
        assert self.settle() <= math.ceil(lost / BATCH) + 2
        assert sum(self.swept.values()) == lost
        assert self.swept.keys() == set(dead)
        self.check_balance()

        left = [name for name in self.names if name not in self.gone]
        self.draining.update(left[::3])
        handed_off = sum(self.held[name] for name in self.draining)
        self.waiting += handed_off
        for name in self.draining:
            self.held[name] = 0
        assert self.settle() <= math.ceil(handed_off / BATCH) + 2
        self.check_balance()
        assert self.refused == 0, "one watchdog alone never gives more than there is room for"
        # What it gave counts until the heartbeat that shows it, which every instance sends within a second.
        assert self.most_in_flight <= (HEARTBEAT_TURNS + 1) * BATCH


def test_a_small_fleet_stays_balanced_through_deaths_and_drains():
    Fleet(instances=100, slots=200).run(sessions=BATCH)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_instances_and_a_million_sessions_stay_balanced_through_a_thousand_deaths_and_a_drain():
    fleet = Fleet(instances=10_000, slots=200)
    fleet.run(sessions=1_000_000)
    assert sum(fleet.held.values()) >= 900_000
    # One draw for each placement, and none for what found no room.
    assert fleet.draws <= 1_500_000
