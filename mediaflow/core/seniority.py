"""The order of sibling sessions: who survives when one call has several live sessions.

The same order is computed by ``lua/_seniority.lua`` from the same strings; a property test
holds the two together.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Standing(NamedTuple):
    """What seniority looks at: the owner's rank, then the session id; both ASCII, compared bytewise."""

    rank: str
    session_id: str


def precedes(one: Standing, other: Standing) -> bool:
    """Tell whether ``one`` is senior to ``other``: a strict total order, so never both ways.

    An instance that started earlier is senior; among sessions of one instance the older session id is.
    """
    return (one.rank.encode(), one.session_id.encode()) < (other.rank.encode(), other.session_id.encode())


def senior(standings: Iterable[Standing]) -> Standing | None:
    """Return the one that every other yields to, or None if there is none at all."""
    return min(standings, key=lambda s: (s.rank.encode(), s.session_id.encode()), default=None)
