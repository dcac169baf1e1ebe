"""A worker with a thousand sessions is killed: all of them run elsewhere, and Redis goes on serving everybody."""

import pytest
import redis
from harness.api import Api
from harness.handlers import read_journal
from harness.stopwatch import WEIGHT, Stopwatch
from harness.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]

SESSIONS = 1_000
LONGEST_SCRIPT_S = 0.005
CRASH_BOUND_S = 1.0
IDLE = ("--app", "harness.handlers:idle", "--lease-ttl", "10")


async def test_g6_a_thousand_sessions_of_a_killed_worker_run_elsewhere_and_no_script_keeps_redis_long(
    fleet, http, journal, redis_server
):
    watchdog = Api(http, (await fleet.watchdog("--lease-ttl", "10")).url)
    victim = (await fleet.workers("victim", "left", "right", slots=SESSIONS, arguments=IDLE))[0]
    call_ids = [f"call-{number}" for number in range(SESSIONS)]
    answers = await Api(http, victim.url).submit_all(call_ids)
    assert {answer.status for answer in answers} == {201}
    await eventually(lambda: _counts(watchdog, SESSIONS), 20, about="the watchdog has looked since")
    raw = redis.Redis(port=redis_server.port)
    raw.config_set("slowlog-log-slower-than", int(LONGEST_SCRIPT_S * 1e6))
    raw.slowlog_reset()

    def elsewhere():
        return [entry for entry in read_journal(journal) if entry.instance_id != "victim"]

    with Stopwatch() as watch:
        victim.kill()
        await eventually(lambda: len(elsewhere()) >= SESSIONS, 60, every_s=0.1)
    starts = elsewhere()
    assert sorted(entry.call_id for entry in starts) == sorted(call_ids), "each was started once"
    last_s = max(entry.at_s for entry in starts)
    watch.assert_within(CRASH_BOUND_S, "the last of a thousand sessions ran elsewhere", at_s=last_s)

    lost_s = watch.kept_waiting_s(watch.began_s, watch.began_s + watch.took_s)
    scripts = [one for one in raw.slowlog_get(100) if one["command"].startswith(b"EVALSHA")]
    raw.close()
    longest_s = max((one["duration"] for one in scripts), default=0) / 1e6
    assert longest_s <= LONGEST_SCRIPT_S + WEIGHT * lost_s, f"{longest_s} s, and {lost_s} s were lost"


async def _counts(watchdog: Api, sessions: int) -> bool:
    return await watchdog.gauge('namespace_sessions{state="active"}') == sessions
