"""The rules of the protocol, each of which can be left out."""

from typing import NamedTuple


class Rules(NamedTuple):
    """The protocol's rules; a False one is a mutant."""

    seniority_is_strict: bool = True
    yield_needs_live_lease: bool = True
    yield_needs_acceptance: bool = True
    fence_follows_time: bool = True
    lease_time_is_capped: bool = True
    sweep_looks_at_the_lease: bool = True
    sweep_looks_at_the_incarnation: bool = True
    accept_looks_at_the_fence: bool = True
    accept_looks_at_the_owner: bool = True
    write_looks_at_the_fence: bool = True
    tombstones_stay: bool = True
    ended_by_is_kept: bool = True
    relinquished_has_no_owner: bool = True
    rollback_is_proven_by_fence: bool = True
    indexes_are_written_first: bool = True
    deadline_from_sending: bool = True
    cap_is_given_away: bool = True
    set_of_the_successor_stays: bool = True
    new_server_is_asked_for_a_fence: bool = True
    refused_is_not_accepted: bool = True
