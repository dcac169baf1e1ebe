"""`mediaflow doctor` on real servers: fit, wrongly set up, out of reach, or closed to us."""

import json

import pytest
from harness.ports import free_port
from harness.processes import Program

from mediaflow.settings import Settings
from mediaflow.store.examination import examine
from mediaflow.web import descriptors

pytestmark = pytest.mark.redis


def wall_ms():
    return 1_700_000_000_000


async def doctor(url, *arguments, exit_status=0, **environ):
    program = Program("mediaflow", "doctor", "--redis", url, "--json", *arguments, environ=environ)
    try:
        assert await program.ended() == exit_status, program.report()
        assert len(program.stderr) == bool(exit_status), program.report()
        found = json.loads(program.stdout[0])
    finally:
        program.close()
    assert found["fit"] is not bool(exit_status)
    return {
        check["name"]: (check["level"], check["found"], check.get("advice", "")) for check in found["checks"]
    }


async def test_a_server_that_forgets_and_evicts_is_found_out_and_left_as_it_was(new_redis):
    server = new_redis("--maxmemory", "200mb", "--maxmemory-policy", "allkeys-lru")
    checks = await doctor(server.url, exit_status=1)
    assert checks["eviction"][:2] == ("bad", "allkeys-lru")
    assert checks["persistence"][:2] == ("warn", "none")
    assert {name for name, check in checks.items() if check[0] == "bad"} == {"eviction"}
    assert checks["rehearsal"][0] == checks["scripts"][0] == checks["pub/sub"][0] == "ok"
    assert server.command("DBSIZE") == b"0"


@pytest.mark.slow
async def test_a_server_that_is_set_up_well_is_fit(new_redis):
    server = new_redis("--maxmemory", "200mb", "--appendonly", "yes")
    checks = await doctor(server.url)
    assert {check[0] for check in checks.values()} == {"ok"}, checks
    assert "everysec" in checks["persistence"][1]


@pytest.mark.slow
async def test_what_is_out_of_reach_is_said_without_the_password():
    checks = await doctor("redis://:secret@127.0.0.1:9/0", exit_status=1)
    assert checks["Redis"][0] == "bad"
    assert "secret" not in str(checks)
    assert "--redis" in checks["Redis"][2]


async def test_a_user_with_the_rights_of_the_namespace_is_fit_and_one_without_is_told_what_to_grant(
    new_redis,
):
    server = new_redis()
    server.command("ACL", "SETUSER", "able", "on", ">x", "~mediaflow:*", "&mediaflow:*", "+@read", "+@write",
                   "+@scripting", "+@pubsub", "+@connection", "+info", "+time", "+wait")  # fmt: skip
    server.command("ACL", "SETUSER", "weak", "on", ">x", "~other:*", "&mediaflow:*", "+@all")
    found = await examine(Settings(redis_url=server.url.replace("//", "//able:x@")), wall_ms)
    assert (found.rehearsal, found.unloadable, found.deaf) == ("", [], "")
    assert found.nodes[0].settings is None
    found = await examine(Settings(redis_url=server.url.replace("//", "//weak:x@")), wall_ms)
    assert "permission" in found.rehearsal or "NOPERM" in found.rehearsal
    assert server.command("DBSIZE") == b"0"


@pytest.mark.slow
@pytest.mark.parametrize(("last", "level"), [("16383", "ok"), ("16000", "bad")])
async def test_hash_slots_that_nobody_serves_are_found(new_redis, last, level):
    server = new_redis(
        *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
        *("--cluster-require-full-coverage", "no"),
    )
    server.command("CLUSTER", "ADDSLOTSRANGE", "0", last)
    url = server.url.replace("redis://", "redis+cluster://").removesuffix("/0")
    checks = await doctor(url, exit_status=int(level == "bad"))
    assert checks["hash slots"][0] == level
    checks = await doctor(server.url, exit_status=1)
    assert "redis+cluster://" in checks["role"][2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
async def test_a_store_of_several_servers_is_examined_at_its_primaries(topologies, kind):
    place = topologies(kind)
    place.empty()
    checks = await doctor(place.url)
    assert checks["Redis"][0] == "ok", checks
    expected = {"scripts", "rehearsal", "pub/sub"} | ({"hash slots"} if kind == "cluster" else set())
    assert {name for name in expected if checks[name][0] == "ok"} == expected, checks
    versions = [name for name in checks if name.startswith("version")]
    assert len(versions) == (3 if kind == "cluster" else 1), checks
    assert not any(check[0] == "bad" for check in checks.values()), checks
    assert place.raw.keys("*") == []


@pytest.mark.slow
async def test_a_replica_and_another_number_of_partitions_are_found(new_redis):
    primary = new_redis()
    replica = new_redis("--replicaof", "127.0.0.1", str(primary.port))
    checks = await doctor(replica.url, exit_status=1)
    assert checks["role"][0] == "bad"
    primary.command("HSET", "mediaflow:{registry}:constants", "partitions", "16", "cap_ms", "1000")
    checks = await doctor(primary.url, exit_status=1)
    assert "partitions = 16" in checks["namespace"][2]
    await doctor(primary.url, "--partitions", "16")


@pytest.mark.slow
async def test_too_few_files_for_the_slots_are_found(new_redis):
    server = new_redis()
    checks = await doctor(server.url, "--slots", str(min(1_000_000, descriptors.reachable())), exit_status=1)
    assert "ulimit -n" in checks["descriptors"][2]


async def test_a_store_inside_the_process_is_examined_as_far_as_it_goes():
    found = await examine(Settings(redis_url="memory://examined"), wall_ms)
    assert (found.topology, found.nodes, found.rehearsal, found.unloadable) == ("memory", [], "", [])
    assert len(found.round_trips_ms) == 100
    assert found.message_ms is not None
