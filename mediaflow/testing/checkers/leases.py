"""No lease is longer than promised: what bounds every takeover, a part of G6.

Demanded: the record of an active session never shows a lease longer than the full one, once its owner has accepted
it, nor longer than the acceptance lease before: an offer that nobody heard of must lapse soon. No fault exempts from
it, as leases are counted in lease time.
"""

from collections.abc import Sequence

from mediaflow.testing.checkers.reading import ROUNDING_S, every
from mediaflow.testing.history import AnyHappening, Recorded, Terms, Violation


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each record."""
    found: list[Violation] = []
    for one in every(history, Recorded):
        longest_s = terms.lease_ttl_s if one.accepted else terms.accept_ttl_s
        if one.state == "active" and one.lease_s > longest_s + ROUNDING_S:
            kind = "lease" if one.accepted else "acceptance lease"
            message = (
                f"the {kind} of {one.session_id} still runs {one.lease_s:.3f} s, {longest_s:.3f} at most"
            )
            found.append(Violation(guarantee="G6", at_s=one.at_s, message=message))
    return found
