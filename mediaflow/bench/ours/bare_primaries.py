"""The limit of :mod:`mediaflow.bench.ours.primaries`: the same scripts with the same words, packed beforehand.

Two connections to each primary, on which many scripts wait; the answers are only looked at. So Redis is never without
work, and next to nothing is spent on asking. What is asked again was overheard from the store.
"""

import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple, cast

import hiredis

from mediaflow.bench.ours.primaries import Lap, renew, settings, start
from mediaflow.bench.saying import run, say
from mediaflow.store import Holding, RedisStore
from mediaflow.store.address import open_link
from mediaflow.store.link import Call, Link, words
from mediaflow.store.slots import Address

_CONNECTIONS = 2
"""While one is being answered, the other has asked already."""

_STARTS_AT_ONCE, _RENEWALS_AT_ONCE = 50, 8
"""Scripts that are asked for in one go; of renewals each renews dozens."""

_hiredis: Any = hiredis  # whose own types do not say what packing returns


class _Recorder:
    """A link that also keeps what it was asked for."""

    def __init__(self, link: Link) -> None:
        self._link: Any = link
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def ask(self, call: Call, timeout_s: float) -> Any:
        self.calls.append(call)
        return await self._link.ask(call, timeout_s)

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        self.calls += calls
        return await self._link.run_many(calls)

    def taken(self) -> list[Call]:
        """Return what it was asked for since the last time."""
        calls, self.calls = self.calls, []
        return calls


class _Batch(NamedTuple):
    """So many scripts that go out together."""

    number: int
    packed: bytes


class _Connection:
    """A connection to one primary, which asks and waits; an error in an answer is raised."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._parser = hiredis.Reader()

    async def ask(self, batch: _Batch) -> list[Any]:
        self._writer.write(batch.packed)
        replies: list[Any] = []
        while len(replies) < batch.number:
            if not (data := await self._reader.read(1 << 18)):
                raise ConnectionError("a primary closed the connection")
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not False:
                if isinstance(reply, Exception):
                    raise reply
                replies.append(reply)
        return replies

    def close(self) -> None:
        self._writer.close()


class _Replay:
    """Asks again, straight at the primaries, for what the store asked for."""

    def __init__(self, link: Link, calls: Iterable[Call], at_once: int) -> None:
        by_primary: dict[Address, list[Call]] = {}
        for call in calls:
            by_primary.setdefault(cast("Address", link.lane(call)), []).append(call)
        self._batches = {
            address: [
                _packed(here[first : first + at_once], flags=link.server.knows_flags)
                for first in range(0, len(here), at_once)
            ]
            for address, here in by_primary.items()
        }
        self.replies: list[Any] = []

    async def run(self, rounds: int) -> None:
        """Ask for all of it, so many times."""
        async with asyncio.TaskGroup() as group:
            for address, batches in self._batches.items():
                left = chain.from_iterable(repeat(batches, rounds))
                for _ in range(_CONNECTIONS):
                    group.create_task(self._some(address, left))

    async def _some(self, address: Address, left: Iterator[_Batch]) -> None:
        connection = _Connection(*await asyncio.open_connection(*address))
        try:
            for batch in left:
                self.replies += await connection.ask(batch)
        finally:
            connection.close()


def _packed(calls: Sequence[Call], *, flags: bool) -> _Batch:
    packed = (_hiredis.pack_command(words("EVALSHA", call, flags=flags)) for call in calls)
    return _Batch(len(calls), b"".join(packed))


async def _main(number: int, rounds: int, pids: Sequence[int]) -> None:
    link = open_link(settings().redis_url)
    recorder = _Recorder(link)
    store = RedisStore(cast("Link", recorder), settings())
    await store.check()
    recorder.taken()
    held = await start(store, number)
    starts = _Replay(link, recorder.taken(), _STARTS_AT_ONCE)
    for primary in link.primaries():
        await primary.command("FLUSHALL")
    started = await Lap.of(number, pids, lambda: starts.run(1))
    started_anew = _started_anew(held, starts.replies)
    await renew(store, started_anew, 1)
    recorder.taken()  # the first on a server examines the records; what follows is asked again and again
    await renew(store, started_anew, 1)
    renewals = _Replay(link, recorder.taken(), _RENEWALS_AT_ONCE)
    renewed = await Lap.of(number * rounds, pids, lambda: renewals.run(rounds))
    answers = set(chain.from_iterable(renewals.replies))
    if not answers <= {1, b"renewed"}:
        raise RuntimeError(f"not all were renewed: {answers}")
    say(starts=started._asdict(), renewals=renewed._asdict())
    await store.close()


def _started_anew(held: Sequence[Holding], replies: Sequence[Any]) -> list[Holding]:
    """Return the same sessions under the fences that they were given now."""
    fences = {reply[1].decode(): int(reply[6]) for reply in replies if reply[0] == b"created"}
    return [one._replace(claim=one.claim._replace(fence=fences[one.claim.session_id])) for one in held]


if __name__ == "__main__":
    run(_main(int(sys.argv[1]), int(sys.argv[2]), [int(word) for word in sys.argv[3:]]))
