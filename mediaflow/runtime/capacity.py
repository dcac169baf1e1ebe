"""How much an instance can still take: slots say what it can run, and its load whether it should."""

from collections.abc import Callable

from mediaflow.runtime.load import Load, Watch
from mediaflow.runtime.registration import Room
from mediaflow.runtime.slots import Slot, Slots
from mediaflow.settings import Settings


class Capacity:
    """The slots of an instance, behind the gate that its load closes.

    Attributes:
        slots: Counted whatever the load is.
        watch: Measures the load, and keeps the gate.
    """

    def __init__(self, settings: Settings, load: Load | None, on_change: Callable[[], None]) -> None:
        """``on_change`` is called whenever there may be more or less room than before."""
        self.slots = Slots(settings.slots, on_change)
        self.watch = Watch(load, settings.load_threshold, on_change)

    @property
    def free(self) -> int:
        """Slots that may be taken now."""
        return 0 if self.watch.gate.closed else self.slots.total - self.slots.used

    @property
    def why_none(self) -> str:
        """Why no slot is to be had, if none is; for logs and histories."""
        return self.watch.why_closed or "no free slot"

    @property
    def verdict(self) -> str:
        """The same as a predicate, for who asked the instance for a slot."""
        busy = self.watch.why_closed
        why = f"takes nothing more: {busy}" if busy else "has no free slot"
        return f"{why} ({self.slots.used} of {self.slots.total} slots taken)"

    def reserve(self) -> Slot | None:
        """Reserve a slot, or return None if none may be taken."""
        return None if self.watch.gate.closed else self.slots.reserve()

    def room(self) -> Room:
        """Return what heartbeats say of it."""
        gate = self.watch.gate
        return Room(self.slots.total, self.slots.used, gate.load, gate.closed)
