"""What the demo knows of its calls, and its judgement of which are lost.

A call counts from the moment its POST was answered with 2xx until we ask to end it. It is *lost* if it is
then neither active nor pending: the promise of G2, looked at from outside. Pure.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

LIVE = frozenset({"active", "pending"})


class Census(NamedTuple):
    """How the calls that should live are doing: running, waiting for an owner, and missing (call ids)."""

    running: int
    pending: int
    missing: tuple[str, ...]


class Ledger:
    """The calls of one demo."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0
        self.ended = 0
        self.lost: set[str] = set()
        self._live: dict[str, None] = {}

    @property
    def live(self) -> tuple[str, ...]:
        """Calls that were accepted and that we did not ask to end, oldest first; the lost ones included."""
        return tuple(self._live)

    def accept(self, call_id: str) -> None:
        """Note a 2xx."""
        self.accepted += 1
        self._live[call_id] = None

    def refuse(self) -> None:
        """Note an answer that promises nothing."""
        self.refused += 1

    def end(self, call_id: str) -> None:
        """Note that we are about to ask for a call's end; from here on it may be anything."""
        if call_id in self._live:
            del self._live[call_id]
            self.ended += 1

    def take_census(self, expected: Iterable[str], states: Mapping[str, str]) -> Census:
        """Compare a listing with the calls that were live before it was asked for.

        Args:
            expected: :attr:`live` as it was before the listing.
            states: State of each call listed.

        A missing one is a suspicion: a listing of many pages is not one moment. Ask for the call itself,
        then :meth:`judge`.
        """
        still = [call_id for call_id in expected if call_id in self._live]
        seen = [states.get(call_id, "") for call_id in still]
        missing = tuple(call_id for call_id, state in zip(still, seen, strict=True) if state not in LIVE)
        return Census(seen.count("active"), seen.count("pending"), missing)

    def judge(self, call_id: str, state: str | None) -> bool:
        """Decide whether a suspected call is lost, from what the call itself says; None: it is not known."""
        if call_id not in self._live or state in LIVE:
            return False
        self.lost.add(call_id)
        return True
