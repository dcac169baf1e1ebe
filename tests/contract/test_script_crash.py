"""What if the server itself is killed under a load of scripts? With an append-only file, each is there or is not.

Lives of calls, each a chain of requests, are run side by side, and the server is killed again and again. After each
restart the state is legal; who had no answer asks again; and in the end all has come to what it would have come to.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
from harness.laboratory import JUNIOR, SENIOR, Laboratory, report
from harness.legality import outcome, problems
from harness.redis import RedisServer
from harness.waiting import eventually

from mediaflow.core import names
from mediaflow.settings import Settings
from mediaflow.store import Claim, Grant, NewSession, SessionRef, StoreUnavailable, open_store

pytestmark = pytest.mark.redis

LIVES = 12
KILLS = 4
TIMEOUT_S = 0.3
ON_DISK = ("--appendonly", "yes", "--appendfsync", "always")


class Load:
    """Lives of calls on one store; each request is asked until it is answered.

    Attributes:
        answered: How many requests were.
        repeated: How many were asked again, because it was not known whether they had happened.
        asking: How many wait for an answer now.
    """

    def __init__(self, lab: Laboratory) -> None:
        self._lab = lab
        self._store = lab.store
        self.answered = 0
        self.repeated = 0
        self.asking = 0
        self.up = asyncio.Event()
        self.up.set()

    async def ask(self, request: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            await self.up.wait()
            self.asking += 1
            try:
                answer = await request()
            except StoreUnavailable:
                self.repeated += 1
                continue
            finally:
                self.asking -= 1
            self.answered += 1
            return answer

    async def live(self, number: int) -> None:
        """Create, write, hand off, be assigned and accepted, renew; then end in one of three ways."""
        call_id, store = f"call-{number}", self._store
        new = NewSession(
            call_id=call_id,
            session_id=names.session_id(1_800_000_000_000 + number, 0, number),
            idempotency_key="key",
            body_digest="digest",
            metadata=b"{}",
            owner=SENIOR,
        )
        made = await self.ask(lambda: store.create(new, timeout_s=TIMEOUT_S))
        claim = Claim(call_id, made.session_id, made.fence)
        for beat in range(1, 4):
            frame = b'{"frame":%d}' % beat
            await self.ask(lambda n=beat, f=frame: store.checkpoint(SENIOR, claim, n, f, timeout_s=TIMEOUT_S))
        await self.ask(lambda: store.release(SENIOR, claim, "drain", timeout_s=TIMEOUT_S))
        grants = [Grant(SessionRef(call_id, claim.session_id), JUNIOR)]
        await self.ask(lambda: store.assign(0, grants, f"operation-{number}", timeout_s=TIMEOUT_S))
        call = await self.ask(lambda: store.describe(call_id, timeout_s=TIMEOUT_S))
        taken = claim._replace(fence=call.sessions[0].fence)
        accepted = await self.ask(lambda: store.accept(JUNIOR, taken, timeout_s=TIMEOUT_S))
        assert accepted.status == "accepted"
        assert accepted.checkpoint == b'{"frame":3}'
        await self.ask(lambda: store.renew(JUNIOR, taken, timeout_s=TIMEOUT_S))
        await self.ask(lambda: store.heartbeat(report(f"instance-{number}"), timeout_s=TIMEOUT_S))
        if number % 3 == 0:
            await self.ask(lambda: store.complete(JUNIOR, taken, timeout_s=TIMEOUT_S))
        elif number % 3 == 1:
            await self.ask(lambda: store.cancel(call_id, "asked", timeout_s=TIMEOUT_S))


async def run(server: RedisServer, kills: int) -> tuple[dict[str, Any], Load]:
    """Run the load, and kill the server so many times meanwhile; returns what it came to."""
    settings = Settings(redis_url=server.url, lease_ttl=60.0, retention=200.0, partitions=1, accept_ttl=30.0)
    store = await open_store(settings)
    lab = Laboratory(store, settings, redis.Redis(port=server.port, protocol=2))
    load = Load(lab)
    randomness = random.Random(kills)
    async with asyncio.TaskGroup() as tasks:
        for number in range(LIVES):
            tasks.create_task(load.live(number))
        for kill in range(kills):
            enough = (kill + 1) * LIVES * 11 // (kills + 1) + randomness.randrange(5)
            await eventually(lambda enough=enough: load.answered >= enough, 20, every_s=0)
            before = load.repeated
            await asyncio.to_thread(server.stop)
            await eventually(
                lambda before=before: load.repeated > before, 30, about="a request has no answer"
            )
            load.up.clear()
            await eventually(lambda: load.asking == 0, 30, about="nobody asks any more")
            await asyncio.to_thread(server.start)
            assert problems(lab) == [], f"after kill {kill + 1}, with {load.answered} requests answered"
            load.up.set()
    assert problems(lab) == []
    await store.close()
    found = outcome(lab)
    lab.raw.close()
    return found, load


@pytest.mark.slow
async def test_a_server_that_is_killed_under_load_keeps_what_it_acknowledged_and_all_comes_to_its_outcome(
    new_redis,
):
    expected, uncut = await run(new_redis(*ON_DISK), 0)
    found, load = await run(new_redis(*ON_DISK), KILLS)
    assert uncut.repeated == 0
    assert load.repeated >= KILLS
    assert found == expected
    assert len([key for key in expected if key.endswith("answers")]) == LIVES
