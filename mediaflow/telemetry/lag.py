"""How late the event loop is, and who kept it.

A beat on the loop measures by how much it comes late. When the last beat that it knows of would be overdue, a thread
looks whether there was another one, and if not, at what the loop's thread is doing at that very moment: only then is
the culprit on the stack. In good days that costs a timer and a clock reading, some times a second.

It does not see what holds the interpreter's lock all the while (a C extension that never lets go): the thread
cannot run then either. A process that was itself stopped, or got no processor, accuses nobody.

:func:`look` decides; :class:`LagWatch` is the shell around it.
"""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

import msgspec
import structlog

from mediaflow.telemetry.metrics import Metrics

log: Any = structlog.get_logger("mediaflow.loop")

BEAT_S = 0.05
BLOCKED_S = 0.1
"""A beat that is so late was kept waiting by somebody who should have awaited something."""
AGAIN_S = 0.05
"""While a beat is overdue, the thread looks again after so long."""
STARVED_S = 0.05
"""A look that is so late says nothing of the loop: the whole process got no processor."""
QUIET_S = 10.0
"""One line tells of all blocks within this time."""
PEAK_WINDOW_S = 30.0
OTHER = "other"
_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Work(NamedTuple):
    """What a task is there for: the handler's qualified name, and facts for the log line."""

    handler: str
    facts: Mapping[str, str]


_work: ContextVar[Work | None] = ContextVar("mediaflow_work", default=None)
_work_of: "WeakKeyDictionary[asyncio.Task[Any], Work]" = WeakKeyDictionary()


def doing(work: Work) -> None:
    """Say what the current task is there for; where Python tells a task's context (3.12), its own tasks have it too."""
    _work.set(work)
    if (task := asyncio.current_task()) is not None:
        _work_of[task] = work


class Seen(msgspec.Struct, frozen=True):
    """What the thread remembers from look to look; times are monotonic seconds.

    Attributes:
        next_s: When to look next.
        beat_s: The beat after which a block was found last.
        told_s: When a line was written last.
        untold: Blocks found since then.
    """

    next_s: float
    beat_s: float = -1.0
    told_s: float = -1e9
    untold: int = 0


Verdict = Literal["fine", "note", "tell"]


def look(seen: Seen, beat_s: float, now_s: float) -> tuple[Seen, Verdict]:
    """Judge the last beat.

    Args:
        seen: What was remembered.
        beat_s: When the last beat was.
        now_s: The time now.

    Returns:
        What to remember, and what to do: ``note`` who keeps the loop, and ``tell`` it in a line as well.
    """
    starved = now_s - seen.next_s > STARVED_S
    overdue_s = beat_s + BEAT_S + BLOCKED_S
    is_overdue = now_s >= overdue_s
    seen = msgspec.structs.replace(seen, next_s=now_s + AGAIN_S if is_overdue else overdue_s)
    if starved or not is_overdue or beat_s == seen.beat_s:
        return seen, "fine"
    if now_s - seen.told_s < QUIET_S:
        return msgspec.structs.replace(seen, beat_s=beat_s, untold=seen.untold + 1), "note"
    return msgspec.structs.replace(seen, beat_s=beat_s, told_s=now_s, untold=0), "tell"


class Peak:
    """The highest of the values of the last half minute or so."""

    def __init__(self) -> None:
        self._until_s = 0.0
        self._last = self._now = 0.0

    def take(self, value: float, now_s: float) -> None:
        """Take in a value."""
        if now_s >= self._until_s:
            self._last = self._now if now_s < self._until_s + PEAK_WINDOW_S else 0.0
            self._now, self._until_s = 0.0, now_s + PEAK_WINDOW_S
        self._now = max(self._now, value)

    @property
    def value(self) -> float:
        """The highest of them."""
        return max(self._last, self._now)


class LagWatch:
    """Measures one loop, from the thread that runs it, until it is stopped."""

    def __init__(self, metrics: Metrics, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Add the metrics; nothing is measured yet."""
        self._peak = Peak()
        self._observe = metrics.histogram(
            "loop_lag_seconds", "By how much the event loop was late.", _BUCKETS_S
        )
        metrics.gauge(
            "loop_lag_max_seconds",
            "Longest lag of the event loop in the last half minute.",
            lambda: self._peak.value,
        )
        self._blamed = metrics.summary(
            "loop_blocked_seconds", "How long the event loop was kept, by whose coroutine.", "handler"
        )
        self._clock_s = clock_s
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._beat_s = clock_s()
        self._timer: asyncio.TimerHandle | None = None
        self._culprit: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mediaflow-loop-lag", daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._beat_s = self._clock_s()
        self._timer = self._loop.call_later(BEAT_S, self._beat)
        self._thread.start()

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._over.set()
        self._thread.join(timeout=1.0)

    def _beat(self) -> None:
        now_s = self._clock_s()
        lag_s = max(0.0, now_s - self._beat_s - BEAT_S)
        self._observe(lag_s)
        self._peak.take(lag_s, now_s)
        if (culprit := self._culprit) is not None:
            self._culprit = None
            self._blamed(culprit, lag_s)
        self._beat_s = now_s
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _watch(self) -> None:
        seen = Seen(self._clock_s())
        while not self._over.wait(seen.next_s - self._clock_s()):
            beat_s, now_s = self._beat_s, self._clock_s()
            seen, verdict = look(untold := seen, beat_s, now_s)
            if verdict == "fine":
                continue
            frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            task = self._current_task()
            work = None if task is None else _work_of.get(task) or _inherited(task)
            if self._beat_s != beat_s:
                continue  # it went on while we looked: what we saw may be somebody else
            self._culprit = work.handler if work else OTHER
            if verdict == "tell":
                _tell(work, task, frame, now_s - beat_s - BEAT_S, untold.untold)

    def _current_task(self) -> "asyncio.Task[Any] | None":
        with contextlib.suppress(RuntimeError):
            return asyncio.current_task(self._loop)
        return None


@contextmanager
def watching(metrics: Metrics) -> Generator[None]:
    """Measure the running loop meanwhile."""
    watch = LagWatch(metrics)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


def _inherited(task: "asyncio.Task[Any]") -> Work | None:
    get_context = getattr(task, "get_context", None)
    return get_context().get(_work) if get_context else None


def _tell(
    work: Work | None,
    task: "asyncio.Task[Any] | None",
    frame: FrameType | None,
    late_s: float,
    untold: int,
) -> None:
    coroutine = getattr(task.get_coro(), "__qualname__", "") if task else ""
    facts: dict[str, Any] = {**(work.facts if work else {}), "at": where(frame), "for_s": round(late_s, 3)}
    if untold:
        facts["others_since_last_told"] = untold
    log.warning("loop.blocked", handler=work.handler if work else coroutine or OTHER, **facts)


def where(frame: FrameType | None) -> str:
    """Return ``file:line in function`` of what runs in a frame, that of the innermost code of ours or the user's.

    A stack that ends in the standard library or in a package is stuck on behalf of who called it.
    """
    innermost = frame
    while frame is not None:
        name = frame.f_code.co_filename
        if not ("site-packages" in name or name.startswith(("<frozen", sys.base_prefix + "/lib"))):
            break
        frame = frame.f_back
    found = frame or innermost
    if found is None:
        return "(unknown)"
    return f"{found.f_code.co_filename}:{found.f_lineno} in {found.f_code.co_qualname}"
