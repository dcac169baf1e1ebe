"""An asyncio event loop in virtual time, shared by processes that can be paused and killed.

Every callback belongs to a :class:`Node`, a process of the simulated system, by the context it runs in. Within a
node callbacks run in the order in which they were asked for, as asyncio promises; which node goes next is drawn
from the seed. When no node has anything left to do, time jumps to the next timer: an hour costs nothing.

Not simulated: time that code itself takes. A callback takes none, unless the node is paused.
"""

import asyncio
import heapq
import itertools
import random
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, Literal, TypeVar

T = TypeVar("T")

CALLBACKS_AT_ONE_MOMENT = 200_000
"""More than that without time going on is a livelock."""

START_S = 1_000.0
"""The loop's time when it begins: no process of a host starts at the moment of its boot."""


class Node:
    """A process of the simulated system, as far as the loop is concerned."""

    def __init__(self, name: str) -> None:
        """Begin a process that runs."""
        self.name = name
        self.state: Literal["running", "paused", "dead"] = "running"
        self.queue: deque[asyncio.Handle] = deque()

    def __repr__(self) -> str:
        """Name it."""
        return f"<Node {self.name} {self.state}>"


WORLD = Node("world")
_node: ContextVar[Node] = ContextVar("mediaflow_node", default=WORLD)


def current_node() -> Node:
    """Return the process whose code is running."""
    return _node.get()


class Stuck(Exception):
    """Nothing will ever happen any more, or time stands still."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop; :meth:`run` a coroutine on it. One at a time in a thread, as with any event loop."""

    def __init__(self, seed: int) -> None:
        """Begin at :data:`START_S`, with the order of nodes drawn from ``seed``."""
        self._random = random.Random(f"order {seed}")  # noqa: S311 - to be repeatable is what it is for
        self._now_s = START_S
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._busy: dict[Node, None] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._over = False
        self._running = False
        self._nodes: list[Node] = []
        self.complaints: list[dict[str, Any]] = []

    # -- processes ----------------------------------------------------------------------------

    def node(self, name: str) -> Node:
        """Make a process."""
        node = Node(name)
        self._nodes.append(node)
        return node

    def spawn(self, node: Node, coroutine: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        """Start a task as code of a process."""
        context = copy_context()
        context.run(_node.set, node)
        return self.create_task(coroutine, name=name or node.name, context=context)

    def pause(self, node: Node) -> None:
        """Give a process no time until it is resumed; what comes for it waits."""
        if node.state == "running":
            node.state = "paused"
            self._busy.pop(node, None)

    def resume(self, node: Node) -> None:
        """Let a paused process go on, with all that has come for it meanwhile."""
        if node.state == "paused":
            node.state = "running"
            if node.queue:
                self._busy[node] = None

    def kill(self, node: Node) -> None:
        """End a process: no line of it runs any more, no ``finally`` either."""
        node.state = "dead"
        node.queue.clear()
        self._busy.pop(node, None)

    # -- running ------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T], *, until_s: float = 100_000.0) -> T:
        """Run a coroutine to its end, as the world outside of all processes.

        Raises:
            Stuck: It can never end, or has not by ``until_s`` of virtual time.
        """
        task = self.spawn(WORLD, main, "world")
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._finalize)
        asyncio._set_running_loop(self)  # noqa: SLF001 - the documented hook for writers of event loops
        self._running = True
        try:
            while True:
                self._settle()
                if task.done():
                    return task.result()
                self._advance(until_s)
        finally:
            self._running = False
            asyncio._set_running_loop(None)  # noqa: SLF001
            sys.set_asyncgen_hooks(*hooks)

    def _settle(self) -> None:
        """Let all nodes that have something to do take turns, until none has."""
        for turns in itertools.count():
            if not self._busy:
                return
            if turns > CALLBACKS_AT_ONE_MOMENT:
                raise Stuck(
                    f"time stands still at {self._now_s:.3f}: {list(self._busy)} will not come to rest"
                )
            nodes = list(self._busy)
            node = nodes[int(self._random.random() * len(nodes))] if len(nodes) > 1 else nodes[0]
            self._turn(node)

    def _turn(self, node: Node) -> None:
        """Run what a node has ready, as one turn of its own event loop would."""
        queue = node.queue
        for _ in range(len(queue)):
            if not queue:  # the node was killed by one of its callbacks
                break
            handle = queue.popleft()
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - as each event loop does
        if not queue or node.state != "running":
            self._busy.pop(node, None)

    def _advance(self, until_s: float) -> None:
        """Go on to the next timer, and make all that is due then ready."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise Stuck("nothing will ever happen any more, and the run is not over")
        self._now_s = max(self._now_s, timers[0][0])
        if self._now_s > until_s + START_S:
            raise Stuck(f"not over after {until_s:.0f} s of virtual time")
        while timers and timers[0][0] <= self._now_s:
            _, _, handle = heapq.heappop(timers)
            if not handle.cancelled():
                self._enqueue(handle)

    def _enqueue(self, handle: asyncio.Handle) -> None:
        node = _node_of(handle)
        if node.state == "dead" or self._over:
            return
        node.queue.append(handle)
        if node.state == "running":
            self._busy[node] = None

    def _finalize(self, generator: Any) -> None:
        """Close an asynchronous generator that was left half-way, as asyncio's own loops do."""
        if not self._over:
            self.call_soon(self.create_task, generator.aclose())

    def close(self) -> None:
        """Close all coroutines that are left; nothing that they say or ask for counts any more."""
        self._over = True
        asyncio._set_running_loop(self)  # noqa: SLF001 - their finally blocks may ask for it
        try:
            self._close_tasks()
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001

    def _close_tasks(self) -> None:
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - it is on purpose
                _close(task)
        self._tasks.clear()
        self._timers.clear()
        for node in (WORLD, *self._nodes):
            node.queue.clear()
        self._busy.clear()

    # -- what asyncio asks of a loop ------------------------------------------------------------

    def time(self) -> float:
        """Return virtual seconds."""
        return self._now_s

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in the next turn of its node."""
        handle = _Handle(callback, args, self, copy_context() if context is None else context)
        self._enqueue(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in the next turn: there are no threads here."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback after some virtual time."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback at a virtual time."""
        handle = _TimerHandle(when, callback, args, self, copy_context() if context is None else context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it to lie: it is dropped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **_: Any,
    ) -> asyncio.Task[T]:
        """Start a task; it is kept until the end, so that no garbage collection can end it."""
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)  # type: ignore[arg-type]
        self._tasks.append(task)
        if len(self._tasks) > 2000:
            self._tasks = [kept for kept in self._tasks if not kept.done()]
        return task

    def get_task_factory(self) -> None:
        """There is none."""
        return

    def is_running(self) -> bool:
        """Tell whether :meth:`run` is under way."""
        return self._running

    def is_closed(self) -> bool:
        """Tell whether :meth:`run` is over; what is asked for then is dropped, not refused."""
        return False

    def get_debug(self) -> bool:
        """Never."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody caught, for the run to report."""
        if not self._over:
            self.complaints.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Do as :meth:`call_exception_handler`."""
        self.call_exception_handler(context)


class _Handle(asyncio.Handle):
    """A handle that tells its context, which ``asyncio.Handle`` does from Python 3.12 on."""

    __slots__ = ("node",)

    def __init__(
        self, callback: Callable[..., object], args: Any, loop: asyncio.AbstractEventLoop, context: Context
    ) -> None:
        super().__init__(callback, args, loop, context)
        self.node = context.get(_node, WORLD)


class _TimerHandle(asyncio.TimerHandle):
    __slots__ = ("node",)

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Any,
        loop: asyncio.AbstractEventLoop,
        context: Context,
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.node = context.get(_node, WORLD)


def _node_of(handle: asyncio.Handle) -> Node:
    return getattr(handle, "node", WORLD)


def _close(task: asyncio.Task[Any]) -> None:
    """Close a task's coroutine, whatever its ``finally`` blocks make of that."""
    coroutine: Any = task.get_coro()
    for _ in range(10):
        try:
            coroutine.close()
        except RuntimeError:
            continue  # it awaited something in a finally block: close that as well
        except BaseException:  # noqa: BLE001 - the simulation is over, and nobody is left to hear of it
            return
        return
