"""What the bench makes of what a client of a cluster says, and how it deals out the hash slots."""

import itertools

import pytest

from mediaflow.bench.cluster import shares
from mediaflow.bench.contests.primaries import PRIMARIES, figures
from mediaflow.core.partitions import HASH_SLOTS, hash_slot, tags


@pytest.mark.parametrize("primaries", [1, 2, 3, 7])
def test_each_hash_slot_is_served_by_one_primary(primaries: int):
    dealt = shares(primaries)
    assert len(dealt) == primaries
    assert (dealt[0][0], dealt[-1][1]) == (0, HASH_SLOTS - 1)
    assert all(last + 1 == first for (_, last), (first, _) in itertools.pairwise(dealt))


@pytest.mark.parametrize("primaries", PRIMARIES.sizes)
def test_each_primary_has_as_many_partitions_as_any_other(primaries: int):
    slots = [hash_slot(tag) for tag in tags(32)]
    served = [sum(first <= slot <= last for slot in slots) for first, last in shares(primaries)]
    assert max(served) - min(served) <= 1


def test_figures_tell_rates_costs_and_who_is_busy():
    found = figures(
        {
            "starts": {"number": 100, "took_s": 2.0, "client_s": 1.0, "primaries_s": [0.5, 1.5]},
            "renewals": {"number": 10_000, "took_s": 1.0, "client_s": 0.9, "primaries_s": [0.1, 0.1]},
        }
    )
    assert found == {
        "starts": 50.0,
        "client CPU a start": 10_000.0,
        "Redis CPU a start": 20_000.0,
        "client busy starting": 50.0,
        "primary busy starting": 75.0,
        "renewals": 10_000.0,
        "client CPU a renewal": 90.0,
        "Redis CPU a renewal": 20.0,
        "client busy renewing": 90.0,
        "primary busy renewing": 10.0,
    }
    assert set(found) == {metric.name for metric in PRIMARIES.metrics}
