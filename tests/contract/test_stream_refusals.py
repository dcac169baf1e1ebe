"""What if Redis fails a script on streams: a wrong type, no memory left, SCRIPT KILL? All of it is done, or nothing."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from conftest import needs_redis
from harness.cutting import busy, cut_off, endless, kill_script, no_memory_left, slow_once, tamper_with
from harness.limiters import Bench, be_patient
from harness.topologies import OneServer

from mediaflow.store import StoreError, StoreUnavailable

pytestmark = pytest.mark.redis

WRITERS = ("stream_start", "stream_beat", "stream_stop")


@pytest.fixture(scope="module")
def place():
    needs_redis()
    made = OneServer()
    yield made
    made.close()


@pytest.fixture
async def bench(place, monkeypatch):
    place.empty()
    be_patient(monkeypatch)
    async with Bench(place.url, place.raw, on_store_down="deny", stream_limit=2) as made:
        yield made


async def asker_of(limiter: Any, what: str, user: str) -> Callable[[], Awaitable[Any]]:
    """Give a user two streams, all that may be, and return a request that runs the script."""
    oldest = await limiter.start(user, "phone", idempotency_key="1")
    await limiter.start(user, "tv", idempotency_key="2")
    return {
        "stream_start": lambda: limiter.start(user, "pad", on_limit="stop_oldest", idempotency_key="3"),
        "stream_beat": lambda: limiter.heartbeat(user, oldest.stream_id),
        "stream_stop": lambda: limiter.stop(user, oldest.stream_id),
        "stream_list": lambda: limiter.list(user),
    }[what]


def contents(raw: Any) -> dict[bytes, bytes]:
    return {key: raw.dump(key) for key in raw.keys("*")}


async def devices(limiter: Any, user: str) -> list[str]:
    return sorted(stream.device_id for stream in (await limiter.list(user)).streams)


AFTER = {"stream_start": ["pad", "tv"], "stream_beat": ["phone", "tv"], "stream_stop": ["tv"]}


@pytest.mark.parametrize("what", [*WRITERS, "stream_list"])
async def test_a_key_of_a_wrong_type_stops_it_before_its_first_write(bench, what):
    limiter = await bench.open()
    link = tamper_with(limiter._store)
    checked = 0
    while True:
        ask = await asker_of(limiter, what, f"user-{checked}")
        link.script, link.tamper = what, functools.partial(cut_off, fail_at=1)
        with pytest.raises(StoreError):
            await ask()
        link.tamper = None
        if checked == len(link.keys):
            break
        key = link.keys[checked]
        bench.raw.delete(key)
        bench.raw.rpush(key, "of a wrong type")
        wrong = contents(bench.raw)
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await ask()
        assert contents(bench.raw) == wrong
        checked += 1
    assert checked


@pytest.mark.parametrize("what", [*WRITERS, "stream_list"])
async def test_with_full_memory_only_a_new_stream_is_refused_and_nothing_is_half_done(bench, what):
    limiter = await bench.open()
    ask = await asker_of(limiter, what, "user")
    before = contents(bench.raw)
    with no_memory_left(bench.raw):
        if what == "stream_start":
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                await ask()
            assert contents(bench.raw) == before
        else:
            await ask()
    await ask() if what == "stream_start" else None
    assert await devices(limiter, "user") == AFTER.get(what, ["phone", "tv"])


@pytest.mark.parametrize("stop_at", [1, 0], ids=["at its first command", "before its first write"])
@pytest.mark.parametrize("what", WRITERS)
async def test_one_that_is_killed_has_changed_nothing_and_is_asked_again(bench, what, stop_at):
    limiter = await bench.open()
    ask = await asker_of(limiter, what, "user")
    before = contents(bench.raw)
    with slow_once(limiter._store, bench.raw, what, functools.partial(endless, stop_at=stop_at)) as link:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask())
            await busy(bench.raw)
            await kill_script(bench.raw)
            assert contents(bench.raw) == before
            link.let_through.set()
    assert await devices(limiter, "user") == AFTER[what]
