"""The watchdog as a program: it waits for Redis, tells how it is, refuses another namespace's shape, ends well."""

import pytest
from harness.api import Api
from harness.waiting import eventually

pytestmark = pytest.mark.redis


@pytest.mark.slow
async def test_it_serves_without_redis_says_so_once_and_watches_when_redis_comes(fleet, http, redis_server):
    redis_server.stop()
    watchdog = await fleet.watchdog()
    api = Api(http, watchdog.url)
    assert (await api.ask("GET", "/healthz")).status == 200
    answer = await api.ask("GET", "/readyz")
    assert answer.status == 503
    assert "Redis" in answer.body["detail"]
    redis_server.start()
    await eventually(lambda: api.ask("GET", "/readyz"), 10, until=lambda found: found.status == 200)
    worker = await fleet.worker("w1", 1)
    for name in ("first", "second"):
        assert (await Api(http, worker.url).submit(name)).status == 201

    async def pending() -> float:
        return await api.gauge('namespace_sessions{state="pending"}')

    await eventually(pending, 5, until=lambda count: count == 1)
    said = [line for line in watchdog.stderr if "Redis" in line]
    assert len(said) == 1, said


async def test_sigterm_ends_it_with_status_zero(fleet):
    watchdog = await fleet.watchdog()
    watchdog.terminate()
    assert await watchdog.ended(5) == 0


@pytest.mark.slow
async def test_another_number_of_partitions_is_refused_with_one_line(fleet):
    await fleet.watchdog()
    other = fleet.start("watchdog", "--partitions", "8")
    assert await other.ended() == 2
    assert len(other.stderr) == 1, other.stderr
    assert "partitions" in other.stderr[0]
    assert "32" in other.stderr[0]
