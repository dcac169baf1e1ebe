"""Waiting for something to become true, with a deadline and a clear failure."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

Seen = TypeVar("Seen")


async def eventually(
    look: Callable[[], Seen | Awaitable[Seen]],
    within_s: float,
    *,
    until: Callable[[Any], bool] = bool,
    every_s: float = 0.02,
    about: str = "",
) -> Seen:
    """Look again and again until what is seen will do, and return it.

    Fails with what was seen last. An AssertionError of ``look`` means: not yet. A machine too busy to let us look
    again in time moves the deadline by as much; to assert that something is quick, use :mod:`harness.stopwatch`.
    """
    deadline_s = time.monotonic() + within_s
    seen: Any = "nothing yet"
    while True:
        try:
            found = look()
            seen = await found if inspect.isawaitable(found) else found
            if until(seen):
                return seen
        except AssertionError as error:
            seen = error
        if time.monotonic() >= deadline_s:
            what = about or inspect.getsource(look).strip()
            raise AssertionError(f"not within {within_s:g} s: {what}\nlast seen: {seen!r}")
        napped_s = time.monotonic()
        await asyncio.sleep(every_s)
        deadline_s += time.monotonic() - napped_s - every_s
