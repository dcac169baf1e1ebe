"""One request for renewals: what all whose leases go out with it share."""

import math

from mediaflow.core import lease
from mediaflow.core.tenure import Rules
from mediaflow.runtime.meter import InstanceMeter


class Round:
    """When a request was sent and answered, and what follows for the leases that it renews.

    Attributes:
        sent_at_s, heard_at_s: When it was sent, and when its answer came.
        generation: Of the server that it was sent to, see :attr:`~mediaflow.store.Store.generation`.
        is_same_server: The answer comes from that one.
        answer_by_s: When at the latest the answer has to be there, for coroutines that are to be stopped in time.
        late_s: By how much each of its renewals was late.
        left_s: What was left of each lease that it renewed.
    """

    def __init__(self, sent_at_s: float, rules: Rules, generation: int) -> None:
        """Begin with nobody."""
        self.generation = generation
        self.is_same_server = True
        self.sent_at_s = self.heard_at_s = sent_at_s
        self.answer_by_s = math.inf
        self.late_s: list[float] = []
        self.left_s: list[float] = []
        self._rules = rules
        self._until: dict[float, lease.Deadlines] = {}

    def send(self, due_s: float, *, leases: int = 1) -> None:
        """Note that so many leases go out with it whose renewals were due at ``due_s``."""
        self.late_s += [max(0.0, self.sent_at_s - due_s)] * leases

    def bound(self, stop_at_s: float) -> None:
        """Have the answer come in time for a running coroutine that may have to be stopped at ``stop_at_s``."""
        if self._rules.stop_when_cut_off and stop_at_s < self.answer_by_s:
            self.answer_by_s = stop_at_s

    def renewed(self, stop_at_s: float, *, leases: int = 1) -> None:
        """Note that so many were renewed, which were to be distrusted at ``stop_at_s``."""
        self.left_s += [max(0.0, stop_at_s - self.heard_at_s)] * leases

    def patience_s(self) -> float | None:
        """Return for how long to wait for the answer; None if nobody minds."""
        return None if self.answer_by_s == math.inf else max(0.0, self.answer_by_s - self.sent_at_s)

    def until(self, place: float) -> lease.Deadlines:
        """Return the deadlines of a lease that it renews, by the lease's place in the interval."""
        found = self._until.get(place)
        if found is None:
            ttl_s = self._rules.ttl_s
            spread = lease.spread_towards(place, self.sent_at_s, ttl_s)
            found = self._until[place] = lease.deadlines(self.sent_at_s, ttl_s, spread=spread)
        return found

    def count(self, meter: InstanceMeter) -> None:
        """Take down in figures what was renewed."""
        renewed = len(self.left_s)
        if renewed:
            meter.renewals.add("renewed", by=renewed)
            meter.renewal.observe_all([self.heard_at_s - self.sent_at_s] * renewed)
            meter.lease_left.observe_all(self.left_s)
