"""G8: leases that lapse because the clock of Redis jumped are not taken from owners that live.

Of a Redis that stood still, ``test_redis_process.py`` shows the same.
"""

import asyncio

import pytest
from harness.proxied import TTL_S, ProxiedCluster, Witness
from harness.stopwatch import Stopwatch
from harness.waiting import eventually

pytestmark = pytest.mark.redis

SESSIONS = 100


@pytest.mark.slow
async def test_g8_a_clock_of_redis_that_jumps_an_hour_moves_no_session_and_the_dead_are_still_found(
    redis_server,
):
    async def scenario(jump_s: float) -> None:
        witness = Witness()
        async with ProxiedCluster(redis_server) as cluster:
            members = [await cluster.member(name, witness.hold) for name in ("one", "two")]
            watchdog = await cluster.watchdog()
            for number in range(10):
                await members[number % 2].start(f"call-{number}")
            await eventually(lambda: sum(run.ticks for run in witness.runs) == 10, 10)
            before = await _owners(cluster)
            await asyncio.sleep(TTL_S / 3)  # the watchdog's warm-up: from now on it sweeps
            cluster.jump_clock(jump_s)
            await asyncio.sleep(TTL_S / 2)  # several ticks, each of which would sweep what has lapsed
            assert await _owners(cluster) == before
            assert (watchdog.orphaned, len(witness.going())) == (0, 10)

            await members[0].instance.abort()

            async def all_at_the_other() -> bool:
                return {owner for _, owner in (await _owners(cluster)).values()} == {"two"}

            with Stopwatch() as watch:
                await eventually(all_at_the_other, 5 * TTL_S)
            # One second more than without a jump: lease time that stood still, or ran ahead, by its cap.
            watch.assert_within(TTL_S + 1.0, "the last session of a silent owner was another's", idle_s=1.5)

    await asyncio.gather(scenario(3600.0), scenario(-3600.0))


async def _owners(cluster: ProxiedCluster) -> dict[str, tuple[str, str]]:
    page = await cluster.store.calls(state="active", cursor=None, limit=SESSIONS)
    return {
        call.call_id: (session.session_id, session.instance_id)
        for call in page.calls
        for session in call.sessions
        if session.lease_remaining_ms > 0
    }
