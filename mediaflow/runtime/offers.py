"""How this process has answered the sessions that it was offered: an acceptance and a refusal must not cross.

The same offer can come twice, as a message and as the answer to a repeated POST. A refusal that reached Redis late
would take away what was accepted since, and a late acceptance would start again what has ended since.
"""

from collections.abc import Collection, Generator
from contextlib import contextmanager

from mediaflow.store import Claim

REMEMBERED = 5000
"""Refusals that are remembered: many more than can be under way."""


class Offers:
    """Offers by their claim, which names the fence: the next offer of the same session is another."""

    def __init__(self) -> None:
        """Begin with none."""
        self._accepting: set[Claim] = set()
        self._refused: dict[Claim, None] = {}
        self._unwanted: dict[str, int] = {}

    def may_accept(self, claim: Claim) -> bool:
        """Tell whether an offer may be accepted: it was not refused, and no acceptance of it is under way."""
        return claim not in self._accepting and claim not in self._refused

    @contextmanager
    def accepting(self, claims: Collection[Claim]) -> Generator[None]:
        """Keep others from accepting the same meanwhile."""
        self._accepting.update(claims)
        try:
            yield
        finally:
            self._accepting.difference_update(claims)

    def count_unwanted(self, session_id: str) -> int:
        """Count one more time that a session was not wanted here, and return how often it was."""
        times = self._unwanted.pop(session_id, 0) + 1
        self._unwanted[session_id] = times
        if len(self._unwanted) > REMEMBERED:
            del self._unwanted[next(iter(self._unwanted))]
        return times

    def refuse(self, claim: Claim) -> bool:
        """Remember a refusal that is about to be sent; False if it must not be, because an acceptance is under way."""
        if claim in self._accepting:
            return False
        self._refused[claim] = None
        if len(self._refused) > REMEMBERED:
            del self._refused[next(iter(self._refused))]
        return True
