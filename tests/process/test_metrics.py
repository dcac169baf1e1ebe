"""What Prometheus and a log show of a real takeover: real programs, a real redis-server, kill -9."""

import asyncio
import json

import pytest
from harness.api import Api
from harness.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]

CALLS = [f"call-{number}" for number in range(10)]


async def total(api: Api, name: str) -> float:
    return (await api.metrics())[f"mediaflow_{name}"]


async def test_a_killed_worker_shows_as_takeovers_with_their_gap_and_their_cause(fleet, http):
    workers, watchdog, balancer = await asyncio.gather(
        fleet.workers("w1", "w2", arguments=("--log-format", "json")), fleet.watchdog(), fleet.balancer()
    )
    first, second, watching, front = (Api(http, program.url) for program in (*workers, watchdog, balancer))
    assert {answer.status for answer in await first.submit_all(CALLS)} == {201}
    assert await total(first, 'dispatch_seconds_count{path="direct"}') == len(CALLS)
    assert await total(first, 'sessions{state="running"}') == len(CALLS)
    await eventually(
        lambda: total(watching, 'namespace_sessions{state="active"}'), 10, until=lambda n: n == len(CALLS)
    )
    await eventually(lambda: total(front, "fleet_used_slots"), 10, until=lambda n: n == len(CALLS))

    workers[0].kill()
    died = '{cause="process_died"}'
    await eventually(lambda: total(second, "takeovers_total" + died), 20, until=lambda n: n == len(CALLS))

    shown = await second.metrics()
    assert shown["mediaflow_takeover_gap_seconds_count" + died] == len(CALLS)
    assert 0 < shown["mediaflow_takeover_gap_seconds_sum" + died] / len(CALLS) < 10, "a gap is no lease"
    assert shown['mediaflow_sessions_started_total{cause="takeover"}'] == len(CALLS)
    assert shown['mediaflow_assignments_total{outcome="accepted"}'] == len(CALLS)
    assert await total(watching, "sessions_orphaned_total" + died) == len(CALLS)
    assert await total(watching, "instances_struck_off_total" + died) == 1
    assert await total(watching, 'sessions_assigned_total{outcome="assigned"}') == len(CALLS)

    def lines() -> list[dict]:
        told = [json.loads(line) for line in list(workers[1].stderr)]
        return [line for line in told if line["event"] == "session.takeover"]

    told = await eventually(lines, 5, until=lambda found: len(found) == len(CALLS))
    assert {line["call"] for line in told} == set(CALLS)
    assert all(line["instance"] == "w2" and line["fence"] and line["session"] for line in told)
    assert all(line["cause"] == "process_died" and line["gap_s"] > 0 for line in told)
