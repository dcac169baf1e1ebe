"""Redis holds no key that belongs to nothing.

Demanded: the run ends without stray keys. No fault exempts from it: what is left of a script that was cut off, or
of a Redis that was rolled back, is still named by an index, and the sweeps that follow it clear it away.
"""

from collections.abc import Sequence

from mediaflow.testing.checkers.reading import final
from mediaflow.testing.history import AnyHappening, Terms, Violation


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:  # noqa: ARG001 - as all checkers
    """Judge what is left in Redis."""
    end = final(history)
    if end is None:
        return []
    return [
        Violation(guarantee="keys", at_s=end.at_s, message=f"the key {key} belongs to nothing")
        for key in end.stray_keys
    ]
