"""How busy an instance is: asks the user's function once a second, and keeps the gate that decides by its answers.

Heartbeats never wait for it. There is one question at a time: a function that hangs is not asked again, and the
gate stays as it is, for what hangs may hang because the host is too busy.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog

from mediaflow.core import load as core

log: Any = structlog.get_logger("mediaflow.instance")

ASK_INTERVAL_S = 1.0
ANSWER_WITHIN_S = 1.0

Load = Callable[[], float | Awaitable[float]]
"""What a user writes: a function or coroutine function that returns a load, from 0 (idle) to 1 (full)."""


class Watch:
    """Knows how busy the instance is.

    Attributes:
        gate: Open until the first answer.
    """

    def __init__(self, ask: Load | None, threshold: float, on_change: Callable[[], None]) -> None:
        """Watch with the user's function, or not at all; ``on_change`` is called when the gate opens or closes."""
        self.gate = core.Gate()
        self._measure = ask
        self._threshold = threshold
        self._on_change = on_change
        self._complained = False

    @property
    def why_closed(self) -> str:
        """Say why nothing more is taken; empty if something is."""
        if not self.gate.closed:
            return ""
        return f"its load is {self.gate.load:.2f}, and load_threshold is {self._threshold:g}"

    async def run(self) -> None:
        """Ask until cancelled."""
        if self._measure is None:
            return
        asking: asyncio.Task[object] | None = None
        try:
            while True:
                asking = asking or asyncio.create_task(_ask(self._measure), name="load")
                await asyncio.wait([asking], timeout=ANSWER_WITHIN_S)
                if asking.done():
                    self._take(asking)
                    asking = None
                else:
                    self._complain(f"it did not answer within {ANSWER_WITHIN_S:g} s")
                await asyncio.sleep(ASK_INTERVAL_S)
        finally:
            if asking is not None:
                asking.cancel()

    def _take(self, answered: asyncio.Task[object]) -> None:
        error = None if answered.cancelled() else answered.exception()
        measured = None if answered.cancelled() or error else answered.result()
        load = core.believed(measured)
        if load is None:
            self._complain(repr(error) if error else f"it returned {measured!r:.80}", error)
        elif load != measured:
            self._complain(f"it returned {measured!r:.80}, which counts as 1")
        else:
            self._complained = False
        was_closed = self.gate.closed
        self.gate = core.step(self.gate, load, self._threshold)
        if self.gate.closed != was_closed:
            log.info("instance.overloaded" if self.gate.closed else "instance.load_fell", load=self.gate.load)
            self._on_change()

    def _complain(self, reason: str, error: BaseException | None = None) -> None:
        """Say once, until it is well again, that the function does not return a load."""
        if not self._complained:
            self._complained = True
            log.warning("instance.load_unknown", reason=f"load: {reason}; return 0 to 1", exc_info=error)


async def _ask(measure: Load) -> object:
    call: Any = measure if inspect.isroutine(measure) else type(measure).__call__
    if inspect.iscoroutinefunction(call):
        return await cast("Awaitable[float]", measure())
    # In a thread: measuring may take its time, as psutil.cpu_percent(interval=…) does.
    return await asyncio.to_thread(measure)
