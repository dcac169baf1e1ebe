"""What the doctor makes of a Redis: each way in which one can be unfit is said, with what to do."""

import pytest

from mediaflow.cli.diagnosis import Expected, judge
from mediaflow.store.examination import Findings, Node

INFO = {
    "redis_version": "7.2.1",
    "role": "master",
    "used_memory": 100,
    "maxmemory": 1000,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "connected_clients": 10,
    "maxclients": 10_000,
}
CONFIG = {"save": "", "appendfsync": "everysec", "min-replicas-to-write": "0"}


def node(settings=CONFIG, ahead_ms=1.0, **info):
    return Node(name="h:1", info=INFO | info, settings=settings, clock_ahead_ms=ahead_ms, clock_error_ms=1.0)


def findings(*nodes, topology="single", **found):
    fine = {
        "address": "redis://h:1",
        "partitions": 32,
        "round_trips_ms": [0.5] * 100,
        "scripts": 20,
        "message_ms": 1.0,
    }
    return Findings(topology=topology, nodes=list(nodes or [node()]), **(fine | found))


def expected(**changed):
    fine = {
        "namespace": "mediaflow",
        "partitions": 32,
        "replicas": 0,
        "slots": 100,
        "descriptors": 65_536,
        "waiting": 4096,
    }
    return Expected(**(fine | changed))


def test_of_a_redis_that_is_fit_nothing_is_said_but_ok():
    checks = judge(findings(), expected())
    assert {check.level for check in checks} == {"ok"}
    assert not any(check.advice for check in checks)
    assert len({check.name for check in checks}) == len(checks) >= 12


@pytest.mark.parametrize(
    ("found", "name", "level", "advice"),
    [
        (findings(node(redis_version="6.0.9")), "version", "bad", "7 or later"),
        (findings(node(redis_version="6.2.14")), "version", "warn", "full memory"),
        (findings(node(redis_version="banana")), "version", "bad", "7 or later"),
        (findings(node(role="slave")), "role", "bad", "primary"),
        (findings(node(cluster_enabled=1)), "role", "bad", "redis+cluster://"),
        (findings(node(maxmemory=0)), "memory", "warn", "set maxmemory"),
        (findings(node(used_memory=850)), "memory", "warn", "raise maxmemory"),
        (findings(node(used_memory=960)), "memory", "bad", "raise maxmemory"),
        (findings(node(maxmemory_policy="allkeys-lru")), "eviction", "bad", "noeviction"),
        (findings(node(maxmemory_policy="volatile-ttl", maxmemory=0)), "eviction", "warn", "noeviction"),
        (findings(node(aof_enabled=0)), "persistence", "warn", "appendonly yes"),
        (findings(node(CONFIG | {"save": "60 1"}, aof_enabled=0)), "persistence", "warn", "appendonly yes"),
        (findings(node(None, aof_enabled=0)), "persistence", "warn", "provider"),
        (findings(node(CONFIG | {"appendfsync": "no"})), "persistence", "warn", "everysec"),
        (findings(node(aof_last_write_status="err")), "persistence", "bad", "disk"),
        (findings(node(rdb_last_bgsave_status="err")), "persistence", "bad", "disk"),
        (findings(topology="sentinel"), "replication", "warn", "add a replica"),
        (findings(node(connected_slaves=1), topology="sentinel"), "replication", "warn", "min-replicas-max-lag"),
        (findings(node(connected_clients=9_950)), "connections", "warn", "maxclients"),
        (findings(node(ahead_ms=60_000)), "clock", "warn", "NTP"),
        (findings(node(ahead_ms=-60_000)), "clock", "warn", "NTP"),
        (findings(topology="cluster", slots_covered=16_000), "hash slots", "bad", "--cluster fix"),
        (findings(partitions=16), "namespace", "bad", "partitions = 16"),
        (findings(unloadable=["renew: ERR compiling"]), "scripts", "bad", "version 7"),
        (findings(unloadable=["renew: NOPERM"], rehearsal="create: NOPERM"), "scripts", "bad", "+@scripting"),
        (findings(rehearsal="create: Redis refused: NOPERM"), "rehearsal", "bad", "~mediaflow:* &mediaflow:*"),
        (findings(rehearsal="create: no answer"), "rehearsal", "bad", "what it says"),
        (findings(message_ms=None, deaf="nothing came"), "pub/sub", "bad", "SUBSCRIBE"),
        (findings(round_trips_ms=[]), "latency", "bad", "network"),
        (findings(round_trips_ms=[1.0] * 90 + [50.0] * 10), "latency", "warn", "SLOWLOG"),
        (findings(round_trips_ms=[300.0] * 100), "latency", "bad", "SLOWLOG"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_once_with_what_to_do(found, name, level, advice):
    wrong = [check for check in judge(found, expected()) if check.level != "ok"]
    check = next(check for check in wrong if check.name == name)
    assert check.level == level
    assert advice in check.advice
    assert all(check.found and check.advice for check in wrong)


@pytest.mark.parametrize(
    ("asked", "name", "level"),
    [
        ({"replicas": 1}, "replication", "bad"),
        ({"partitions": 64}, "namespace", "bad"),
        ({"descriptors": 300}, "descriptors", "bad"),
        ({"descriptors": 600}, "descriptors", "warn"),
        ({"descriptors": 600, "slots": 10}, "descriptors", "ok"),
        ({"descriptors": -1, "slots": 1_000_000}, "descriptors", "ok"),
        ({"waiting": 128}, "new clients", "warn"),
        ({"waiting": 4096}, "new clients", "ok"),
    ],
)
def test_what_is_expected_of_it_counts_too(asked, name, level):
    checks = {check.name: check.level for check in judge(findings(), expected(**asked))}
    assert checks[name] == level


def test_a_user_who_may_load_no_script_but_run_all_is_fit():
    checks = judge(findings(unloadable=["renew: NOPERM no permission"]), expected())
    assert {check.level for check in checks} == {"ok"}


def test_what_cannot_be_reached_is_not_asked_for_more():
    names = [check.name for check in judge(findings(unreachable="connection refused"), expected())]
    assert names == ["Redis", "descriptors", "new clients"]


def test_each_primary_of_a_cluster_is_named():
    two = (node(connected_slaves=1), node(maxmemory_policy="allkeys-lru"))
    names = [check.name for check in judge(findings(*two, topology="cluster"), expected())]
    assert names.count("eviction of h:1") == 2


def test_a_provider_who_hides_everything_is_a_warning_and_no_crash():
    hidden = Node(name="h", info={}, settings=None, clock_ahead_ms=0, clock_error_ms=0)
    checks = judge(findings(hidden), expected())
    assert [check.name for check in checks if check.level != "ok"] == ["server"]
