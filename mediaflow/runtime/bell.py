"""Wakes one task; an eighth of the size of an ``asyncio.Event``, which keeps a queue for many."""

import asyncio


class Bell:
    """What was rung while nobody waited is heard by the next who waits."""

    __slots__ = ("_waiting", "rung")

    def __init__(self) -> None:
        """Begin silent."""
        self.rung = False
        self._waiting: asyncio.Future[None] | None = None

    def ring(self, *_: object) -> None:
        """Wake whoever waits, or will; may be called back by anything."""
        self.rung = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self) -> None:
        """Return once it has rung; only one task may wait."""
        if self.rung:
            return
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None
