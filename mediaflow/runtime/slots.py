"""Slots: how many sessions an instance may run. Capacity is local knowledge: nothing here asks Redis."""

from collections.abc import Callable


class Slot:
    """Room for one session, reserved; give it back once."""

    def __init__(self, slots: "Slots") -> None:
        """Made by :meth:`Slots.reserve`."""
        self._slots: Slots | None = slots

    def free(self) -> None:
        """Give the slot back; a second time does nothing."""
        if self._slots is not None:
            slots, self._slots = self._slots, None
            slots.give_back()


class Slots:
    """A fixed number of slots; a slot is reserved *before* a session is asked for, so that none is ever over."""

    def __init__(self, total: int, on_change: Callable[[], None]) -> None:
        """``on_change`` is called after each reservation and return."""
        self.total = total
        self.used = 0
        self._on_change = on_change

    def reserve(self) -> Slot | None:
        """Reserve a slot, or return None if all are taken."""
        if self.used >= self.total:
            return None
        self.used += 1
        self._on_change()
        return Slot(self)

    def give_back(self) -> None:
        """Count one slot less as used; for :class:`Slot` only."""
        self.used -= 1
        self._on_change()
