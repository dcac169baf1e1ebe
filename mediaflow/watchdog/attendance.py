"""Which instances are being attended: one probe for each incarnation that has an address."""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mediaflow.core.vigil import Reached, Refused, VigilEvent
from mediaflow.watchdog.probe import Probe, attend


class Post(NamedTuple):
    """An incarnation of an instance at an address."""

    instance_id: str
    incarnation: int
    address: str


class Attendance:
    """Keeps one probe at each post, as tasks of the group that it is handed.

    Args:
        probe: How instances are reached.
        tasks: Owns the probes; they end with it.
        tell: Hears what the probes find.
    """

    def __init__(self, probe: Probe, tasks: asyncio.TaskGroup, tell: Callable[[VigilEvent], None]) -> None:
        self._probe = probe
        self._tasks = tasks
        self._tell = tell
        self._attended: dict[Post, asyncio.Task[None]] = {}

    def keep(self, posts: Iterable[Post]) -> None:
        """Attend these and no others. One whose probe had ended is attended anew."""
        wanted = set(posts)
        for post in [post for post in self._attended if post not in wanted]:
            self._attended.pop(post).cancel()
        for post in wanted:
            task = self._attended.get(post)
            if task is None or task.done():
                self._attended[post] = self._tasks.create_task(
                    self._attend(post), name=f"probe {post.instance_id} at {post.address}"
                )

    async def _attend(self, post: Post) -> None:
        await attend(
            self._probe,
            post.address,
            on_reached=lambda: self._tell(Reached(post.instance_id, post.incarnation)),
            on_refused=lambda: self._tell(Refused(post.instance_id, post.incarnation)),
        )
