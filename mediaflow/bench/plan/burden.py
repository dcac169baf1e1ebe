"""What a demand burdens the parts of a fleet with, in numbers: rates, loads, and how much one process holds."""

import bisect
import math

import msgspec

from mediaflow.bench.plan.costs import Costs
from mediaflow.bench.plan.demand import Demand
from mediaflow.core.vigil import QUIET_S
from mediaflow.runtime.registration import HEARTBEAT_INTERVAL_S

GIB = 2**30
CORE_US = 1e6
"""Microseconds of one core in a second."""

RENEWALS_A_LEASE = 3
READINGS_A_BALANCER = 1.0
READINGS_A_WATCHDOG = 2.0
TICKS = 2.0
"""Looks at each partition by each watchdog, a second."""

LONGEST_READING_S = QUIET_S - HEARTBEAT_INTERVAL_S
"""A reading that takes longer makes instances look silent that are not."""

LONELY = 1000
"""A part of the lease so small that renewals meet no others in it."""

CONNECTIONS = 2
"""Of a process to each Redis: one for requests, one for messages."""


class Load(msgspec.Struct, frozen=True):
    """What a kind of Redis is burdened with."""

    cpu_us: float
    memory_bytes: float
    wire_bytes: float


def scripts_a_renewal(sessions: int, partitions: int, gather_in: float) -> float:
    """Return how many scripts one renewal costs, when those of a worker go out together.

    The first waits a part of the lease for others, and a script serves one partition. So each batch has the first and
    those that come meanwhile, and hits as many partitions as that many balls hit boxes.

    Args:
        sessions: In the worker.
        partitions: Of the namespace.
        gather_in: The part of the lease, as in 1/40.
    """
    together = 1 + RENEWALS_A_LEASE * sessions / gather_in
    return partitions * (1 - (1 - 1 / partitions) ** together) / together


def gathered_in(scripts: float, sessions: int, partitions: int) -> float:
    """Return which part of the lease renewals must have waited for each other, to share scripts as they did.

    Args:
        scripts: As were measured for each renewal.
        sessions: In the worker, then.
        partitions: Of the namespace.

    Returns:
        What makes :func:`scripts_a_renewal` give ``scripts``: at least 3, all of an interval; as much as
        :data:`LONELY`, where they shared none.
    """
    return next(
        (
            float(part)
            for part in range(RENEWALS_A_LEASE, LONELY)
            if scripts_a_renewal(sessions, partitions, part) >= scripts
        ),
        float(LONELY),
    )


class Burden:
    """What follows from a demand and the costs, in the order in which it does.

    Attributes:
        budget_us: Processor time that a process may use each second.
        held: Sessions that one worker holds; 0 if it cannot hold one.
        workers, watchdogs: How many there are.
        calls_per_s, renewals_per_s, starts_per_s, beats_per_s: Of calls and leases, and of streams.
    """

    def __init__(self, demand: Demand, costs: Costs) -> None:
        self.asked = demand
        self.costs = costs
        self.budget_us = demand.utilisation * CORE_US
        self.calls_per_s = demand.sessions / (60 * demand.call_minutes)
        self.renewals_per_s = RENEWALS_A_LEASE * demand.sessions / demand.lease_ttl_s
        self.starts_per_s = demand.streams / (60 * demand.stream_minutes)
        self.beats_per_s = demand.streams / demand.stream_heartbeat_s
        self.held = self._sessions_a_worker()
        self.workers = math.ceil(demand.sessions / self.held) if self.held else 0
        self.watchdogs = 1 + demand.spares if demand.sessions else 0

    def scripts(self, held: int) -> float:
        """Return how many scripts a renewal costs, in a worker that holds so many sessions."""
        return scripts_a_renewal(held, self.asked.partitions, self.costs.renewals_gather_in)

    def session_us(self, held: int) -> float:
        """Processor time that a session takes each second, in a worker that holds so many."""
        costs, asked = self.costs, self.asked
        renewal_us = costs.worker_renew_us + costs.worker_script_us * self.scripts(held)
        return (
            renewal_us * RENEWALS_A_LEASE / asked.lease_ttl_s
            + (costs.worker_start_us + costs.worker_end_us) / (60 * asked.call_minutes)
            + asked.handler_us
        )

    def _sessions_a_worker(self) -> int:
        left_us = self.budget_us - self.costs.worker_idle_us
        by_cpu = bisect.bisect_right(
            range(1, self.asked.slots + 1), left_us, key=lambda held: held * self.session_us(held)
        )
        by_memory = self.asked.worker_gib * GIB // max(1.0, self.costs.worker_session_bytes)
        return int(min(by_cpu, by_memory))

    def watching_us(self) -> float:
        """Return the processor time that one watchdog takes each second."""
        looks_us = TICKS * self.asked.partitions * self.costs.watchdog_tick_us
        return looks_us + READINGS_A_WATCHDOG * self.workers * self.costs.reader_us

    def load_of_calls(self) -> Load:
        """Return what all partitions together burden their shards with."""
        costs, asked = self.costs, self.asked
        return Load(
            cpu_us=self.calls_per_s * (costs.redis_start_us + costs.redis_end_us)
            + self.renewals_per_s * self.redis_renewal_us()
            + self.watchdogs * TICKS * asked.partitions * costs.redis_tick_us,
            memory_bytes=asked.sessions * costs.redis_session_bytes
            + self.calls_per_s * asked.retention_s * costs.redis_ended_bytes,
            wire_bytes=self.renewals_per_s * costs.renewal_bytes,
        )

    def redis_renewal_us(self) -> float:
        """Return what a renewal costs in Redis, its share of a script included."""
        return self.costs.redis_renew_us + self.costs.redis_script_us * self.scripts(max(1, self.held))

    def load_of_registry(self, balancers: int) -> Load:
        """Return what the registry burdens its one shard with."""
        costs = self.costs
        readings = balancers * READINGS_A_BALANCER + self.watchdogs * READINGS_A_WATCHDOG
        return Load(
            cpu_us=self.workers * (costs.redis_heartbeat_us + readings * costs.redis_reading_us),
            memory_bytes=0.0,
            wire_bytes=readings * self.workers * costs.reading_bytes,
        )

    def fullness(self, load: Load) -> float:
        """Return how many shards a load would fill, if it could be divided at will: by what fills them first."""
        asked = self.asked
        return max(
            load.cpu_us / self.budget_us,
            load.memory_bytes / (asked.shard_gib * GIB),
            load.wire_bytes * 8 / (asked.network_gbit * 1e9 * asked.utilisation),
        )
