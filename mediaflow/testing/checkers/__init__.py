"""A checker for each promise: a pure function from a history to the violations of that promise.

None of them invents a violation from what a history does not hold: one that nobody wrote ``Recorded`` or ``Final``
entries into is judged by what it has. Each exemption is written, with its reason, in the module that grants it.
"""

from collections.abc import Callable, Sequence

from mediaflow.testing.checkers import (
    answers,
    assignment,
    drains,
    effects,
    endings,
    fences,
    keys,
    leases,
    siblings,
    slots,
    storms,
    survivors,
    takeovers,
)
from mediaflow.testing.history import AnyHappening, Terms, Violation

Checker = Callable[[Sequence[AnyHappening], Terms], list[Violation]]

ALL: tuple[Checker, ...] = (
    assignment.check,
    answers.check,
    fences.check,
    effects.check,
    siblings.check,
    slots.check,
    takeovers.check,
    leases.check,
    survivors.check,
    storms.check,
    drains.check,
    endings.check,
    keys.check,
)


def check_all(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Put a history before every checker; the violations come in the order of their times."""
    found = [violation for check in ALL for violation in check(history, terms)]
    return sorted(found, key=lambda violation: violation.at_s)
