"""From the events of a drain to what became of each session. Pure: events come in, counts come out."""

from collections import Counter
from collections.abc import Iterable

from mediaflow.api.messages import EventView, InstanceView

HANDED_OFF = "drained"
"""Why a session is pending that a draining instance gave away; what it refused meanwhile was never its own."""

_ENDS = frozenset({"session.completed", "session.failed", "session.cancelled", "session.yielded"})
_BEGINS = frozenset({"session.activated", "session.handoff", "session.takeover", "session.readopted"})


class Farewell:
    """What became of the sessions of one instance, from the moment that its events are followed.

    Attributes:
        left: The instance is gone from the registry.
        taken_up: Sessions that were handed off, by the owner they have now.
        ended: Sessions that ended on the instance.
    """

    def __init__(self, instance_id: str) -> None:
        """Begin before the instance is asked to drain."""
        self.left = False
        self.taken_up: Counter[str] = Counter()
        self.ended = 0
        self._instance_id = instance_id
        self._drains = False
        self._owners: dict[str, str] = {}

    @property
    def handed_off(self) -> int:
        """Sessions that the instance gave away."""
        return len(self._owners)

    @property
    def waiting(self) -> int:
        """Sessions that it gave away and nobody has taken up yet."""
        return sum(not owner for owner in self._owners.values())

    @property
    def gone(self) -> int:
        """Sessions that it no longer has."""
        return self.handed_off + self.ended

    def observe(self, event: EventView) -> None:
        """Take up one event; events come in order."""
        mine = event.instance_id == self._instance_id
        session = event.session_id or ""
        if event.event == "instance.draining" and mine:
            self._drains = True
        elif event.event == "instance.left" and mine:
            self.left = True
        elif event.event == "session.pending" and mine and event.reason == HANDED_OFF:
            self._owners.setdefault(session, "")
        elif event.event in _BEGINS and not self._owners.get(session, "taken up"):
            self._owners[session] = event.instance_id or ""
            self.taken_up[self._owners[session]] += 1
        elif event.event in _ENDS and mine and session not in self._owners:
            self.ended += 1
        elif event.event in _ENDS:
            self._forget(session)

    def look(self, instances: Iterable[InstanceView]) -> None:
        """Take up a list of the instances: events may have been missed, and a dead process says no farewell."""
        state = next((view.state for view in instances if view.instance_id == self._instance_id), None)
        self._drains = self._drains or state == "draining"
        # A ready one under its name is its successor, once it has drained.
        self.left = self.left or state is None or (self._drains and state == "ready")

    def _forget(self, session: str) -> None:
        """A session that was handed off ended before anybody took it up: nobody waits for it."""
        if self._owners.get(session) == "":
            self._owners[session] = "nobody"
