"""What is explored: each configuration is small enough to be explored to the end.

Between them they have three instances and two sessions, and each fault beside every other thing that can happen.
"""

from typing import NamedTuple

from simulation.model.partition import Process
from simulation.model.world import Configuration, Faults

THREE = (Process(0, 1), Process(1, 1), Process(2, 1))
TWO = THREE[:2]
RESTARTED = (Process(0, 1), Process(0, 2))
"""The second is the next process of the same instance."""

ONE_SESSION = ((0, 0),)
TWO_SESSIONS = ((0, 0), (0, 1))
TWO_PARTITIONS = ((0, 0), (1, 0))

JUMP = Configuration(
    title="a jump of the clock, in seconds",
    faults=Faults(creates=1, jumps_forward=1),
    processes=TWO, places=ONE_SESSION, present=(True, True), timed=True,
)  # fmt: skip

JUMPS = JUMP._replace(
    title="jumps of the clock forward and back, in seconds",
    faults=Faults(creates=1, jumps_forward=1, jumps_back=1),
)

SLOW = JUMP._replace(
    title="a request or answer that is late or lost, in seconds",
    faults=Faults(creates=1, slow=1),
)

HANDING_OVER = Configuration(
    title="crash, drain, return and cancel, with a request that is late or lost",
    faults=Faults(creates=1, slow=1, leaves=1, crashes=1),
    processes=TWO, places=ONE_SESSION, present=(True, True), completes=True, drains=True, cancels=True,
)  # fmt: skip

REFUSAL = HANDING_OVER._replace(
    title="a refusal that is late or lost, while the same assignment is offered again",
    faults=Faults(creates=1, slow=1, refusals=1), completes=False, drains=False, cancels=False,
)  # fmt: skip

ROLLBACK = Configuration(
    title="a failover that loses the last writes",
    faults=Faults(creates=1, rollbacks=1),
    processes=TWO, places=ONE_SESSION, present=(True, True),
)  # fmt: skip

SIBLINGS = Configuration(
    title="siblings after a loss, three instances, one takeover",
    faults=Faults(creates=1, grants=1),
    processes=THREE, places=TWO_SESSIONS, present=(True, True, True), forgotten_by=1, checks=False,
)  # fmt: skip

SLOW_SIBLINGS = SIBLINGS._replace(
    title="siblings after a loss, the senior's session is forgotten, with a request that is late or lost",
    faults=Faults(creates=1, slow=1, grants=0),
    processes=TWO, present=(True, True), forgotten_by=0,
)  # fmt: skip

SLOW_SIBLINGS_OF_A_JUNIOR = SLOW_SIBLINGS._replace(
    title="siblings after a loss, the junior's session is forgotten, with a request that is late or lost",
    forgotten_by=1,
)

CUTS = Configuration(
    title="a script cut off between two of its commands",
    faults=Faults(creates=1, cuts=1, leaves=1),
    processes=TWO, places=ONE_SESSION, present=(True, True), completes=True, drains=True, cancels=True,
)  # fmt: skip

CUT_SIBLINGS = SLOW_SIBLINGS_OF_A_JUNIOR._replace(
    title="siblings after a loss, a script cut off between two of its commands",
    faults=Faults(creates=1, cuts=1, grants=0),
)

PARTITIONS = Configuration(
    title="two partitions, a process that dies and its successor under the same instance id",
    faults=Faults(creates=2, crashes=1, grants=1),
    processes=RESTARTED, places=TWO_PARTITIONS, present=(True, False), checks=False,
)  # fmt: skip

ALL = (
    JUMP, JUMPS, SLOW, HANDING_OVER, REFUSAL, ROLLBACK, SIBLINGS, SLOW_SIBLINGS,
    SLOW_SIBLINGS_OF_A_JUNIOR, CUTS, CUT_SIBLINGS, PARTITIONS,
)  # fmt: skip


class Mutant(NamedTuple):
    """A rule left out, where that shows, and what is broken then."""

    rule: str
    configuration: Configuration
    broken: str


MUTANTS = (
    Mutant("seniority_is_strict", SIBLINGS, "G4"),
    Mutant("yield_needs_live_lease", SIBLINGS, "G4"),
    Mutant("yield_needs_acceptance", SIBLINGS, "G4"),
    Mutant("fence_follows_time", ROLLBACK, "G3"),
    Mutant("new_server_is_asked_for_a_fence", ROLLBACK, "G3"),
    Mutant("lease_time_is_capped", JUMP, "G3"),
    Mutant("cap_is_given_away", JUMP, "G3"),
    Mutant("deadline_from_sending", SLOW, "G3"),
    Mutant("sweep_looks_at_the_lease", JUMP, "G3"),
    Mutant("sweep_looks_at_the_incarnation", PARTITIONS, "G3"),
    Mutant("accept_looks_at_the_fence", HANDING_OVER, "G3"),
    Mutant("accept_looks_at_the_owner", HANDING_OVER, "tombstones"),
    Mutant("write_looks_at_the_fence", HANDING_OVER, "G3"),
    Mutant("refused_is_not_accepted", REFUSAL, "G3"),
    Mutant(
        "tombstones_stay",
        ROLLBACK._replace(faults=Faults(creates=1, rollbacks=1, leaves=2), cancels=True, completes=True),
        "tombstones",
    ),
    Mutant(
        "ended_by_is_kept", SIBLINGS._replace(faults=Faults(creates=1, leaves=1), cancels=True), "tombstones"
    ),
    Mutant("relinquished_has_no_owner", HANDING_OVER, "G3"),
    Mutant("indexes_are_written_first", CUTS, "indexes"),
    Mutant("set_of_the_successor_stays", PARTITIONS, "indexes"),
)

TWO_JUMPS = JUMP._replace(
    title="two jumps of the clock within a lease", faults=Faults(creates=1, jumps_forward=2)
)

LIMITS = ((TWO_JUMPS, "G3"),)
"""What the protocol does not promise: shown by a counterexample, so that the documents stay true."""
