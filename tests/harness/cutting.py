"""Scripts that Redis fails in the middle: cut off, killed, refused for want of memory.

For the first two a script runs as another text over a link of ours: something is put in front of it that counts
its commands.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from harness.waiting import eventually
from mediaflow.store.link import Call
from mediaflow.store.scripts import Script, _sha1

MOST_COMMANDS = 200
BUSY_AFTER_MS = 20

_COUNTING = """local redis = (function(real)
  local count, written, dawdled = 0, false, false
  local writes = {HSET = true, HSETNX = true, HDEL = true, ZADD = true, ZREM = true, SADD = true, SREM = true,
    SET = true, PERSIST = true, EXPIRE = true, PEXPIRE = true, XADD = true, PUBLISH = true, DEL = true}
  local function call(...)
    count = count + 1
    local writing = writes[(...)]
    %s
    written = written or writing
    return real.call(...)
  end
  return setmetatable({call = call}, {__index = real})
end)(redis)
"""

_CUT = "cut off before command"


def cut_off(script: Script, fail_at: int) -> Script:
    """Return the script so that it fails before its k-th command, after which Redis keeps what it wrote."""
    return _preceded(script, _COUNTING % f"if count == {fail_at} then error('{_CUT} {fail_at}') end")


def was_cut(error: Exception) -> bool:
    """Tell whether an error is the one of :func:`cut_off`."""
    return _CUT in str(error)


def endless(script: Script, stop_at: int) -> Script:
    """Return the script so that it goes round in circles at its k-th command, or before its first write if sooner."""
    return _preceded(script, _COUNTING % f"if writing or count == {stop_at} then while true do end end")


def dawdling(script: Script, rounds: int) -> Script:
    """Return the script so that it takes its time after its first write."""
    return _preceded(
        script, _COUNTING % f"if written and not dawdled then dawdled = true; for i = 1, {rounds} do end end"
    )


def rounds_in(raw: Any, for_s: float) -> int:
    """Return how many rounds of :func:`dawdling` take so long here: scripts have no clock to look at."""
    tried = 1_000_000
    before_s = time.perf_counter()
    raw.eval(f"for i = 1, {tried} do end", 0)
    return int(tried * for_s / (time.perf_counter() - before_s))


def _preceded(script: Script, text: str) -> Script:
    plain = text + script.plain
    flagged = script.flagged.removesuffix(script.plain) + plain
    return Script(script.name, plain, _sha1(plain), flagged, _sha1(flagged))


class TamperedLink:
    """A link on which one script runs as another text.

    Attributes:
        script: The name of that script.
        tamper: Makes the other text; None leaves it as it is.
        keys: The keys that the script was given last.
    """

    def __init__(self, link: Any) -> None:
        self._link = link
        self.script = ""
        self.tamper: Callable[[Script], Script] | None = None
        self.keys: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def ask(self, call: Call, timeout_s: float) -> Any:
        return await self._link.ask(self._tampered(call), timeout_s)

    async def run(self, call: Call, **options: Any) -> Any:
        return await self._link.run(self._tampered(call), **options)

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        return await self._link.run_many([self._tampered(call) for call in calls])

    def _tampered(self, call: Call) -> Call:
        if call.script.name != self.script:
            return call
        self.keys = list(call.keys)
        return call if self.tamper is None else call._replace(script=self.tamper(call.script))

    def remove(self, store: Any) -> None:
        """Have the store use the link behind this one again."""
        store._asker.link = self._link


def tamper_with(store: Any) -> TamperedLink:
    """Put such a link into a store."""
    store._asker.link = link = TamperedLink(store._asker.link)
    return link


class SlowOnce(TamperedLink):
    """A link on which a script runs as another text the first time; later ones wait until they are let through."""

    def __init__(self, link: Any, script: str, tamper: Callable[[Script], Script]) -> None:
        super().__init__(link)
        self.script = script
        self.tamper = tamper
        self.asked = False
        self.let_through = asyncio.Event()

    async def ask(self, call: Call, timeout_s: float) -> Any:
        await self._wait(call)
        return await super().ask(call, timeout_s)

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        await self._wait(*calls)
        return await super().run_many(calls)

    async def _wait(self, *calls: Call) -> None:
        concerned = any(call.script.name == self.script for call in calls)
        if concerned and self.asked:
            await self.let_through.wait()
            self.tamper = None
        self.asked = self.asked or concerned


@contextmanager
def slow_once(store: Any, raw: Any, script: str, tamper: Callable[[Script], Script]) -> Iterator[SlowOnce]:
    """Have a script run as another, slow text once; other clients soon hear that Redis is busy."""
    raw.config_set("busy-reply-threshold", BUSY_AFTER_MS)
    store._asker.link = link = SlowOnce(store._asker.link, script, tamper)
    try:
        yield link
    finally:
        link.remove(store)
        raw.config_set("busy-reply-threshold", 5000)


async def _is_busy(raw: Any) -> bool:
    try:
        await asyncio.to_thread(raw.ping)
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


async def busy(raw: Any) -> None:
    """Wait until a script has run for so long that Redis says so to others."""
    await eventually(lambda: _is_busy(raw), 10, every_s=0.002)


async def kill_script(raw: Any) -> None:
    """Have the running script killed, and wait for its end."""
    raw.script_kill()
    await eventually(lambda: _is_busy(raw), 10, until=lambda still: not still, every_s=0.002)


@contextmanager
def no_memory_left(raw: Any) -> Iterator[None]:
    """Have Redis at its limit of memory meanwhile."""
    raw.config_set("maxmemory", 1)
    try:
        yield
    finally:
        raw.config_set("maxmemory", 0)
