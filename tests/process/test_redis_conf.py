"""Redis as config/redis sets it up: it takes what is set, keeps what was acknowledged, and lets in who should be."""

import asyncio
import contextlib
import re
import shlex

import pytest
import redis
from harness.api import Api
from harness.deployment import CONFIG
from harness.processes import Fleet
from harness.waiting import eventually

pytestmark = pytest.mark.redis

CONFIGURATION = CONFIG / "redis" / "redis.conf"
USERS = CONFIG / "redis" / "users.acl.example"

EVERYBODY = "user default on nopass ~* &* +@all\n"


def settings() -> list[tuple[str, str]]:
    lines = [line for line in CONFIGURATION.read_text().splitlines() if line and not line.startswith("#")]
    words = [[in_bytes(word) for word in shlex.split(line)] for line in lines]
    return [(name, " ".join(value).replace("replica ", "slave ")) for name, *value in words]


def in_bytes(word: str) -> str:
    size = re.fullmatch(r"(\d+)(mb|gb)", word)
    return str(int(size[1]) * {"mb": 2**20, "gb": 2**30}[size[2]]) if size else word


def test_redis_takes_every_setting_of_the_configuration(new_redis):
    server = new_redis("--include", str(CONFIGURATION))
    with redis.Redis(port=server.port, decode_responses=True) as raw:
        for name, value in settings():
            found = raw.config_get(name)[name]
            # One line for each kind of client, which Redis tells in one, and by older names.
            assert value in found if name == "client-output-buffer-limit" else value == found, name
        assert raw.info("persistence")["aof_enabled"] == 1


@pytest.mark.slow
async def test_a_call_that_waits_for_a_slot_outlives_a_crash_of_redis(new_redis, http):
    server = new_redis("--include", str(CONFIGURATION))
    with contextlib.closing(Fleet("--redis", server.url)) as fleet:
        worker, balancer = await asyncio.gather(fleet.worker("w1", 1), fleet.balancer())
        api = Api(http, worker.url)
        runs, waits = await api.submit("runs"), await api.submit("waits")
        assert (runs.body["state"], waits.body["state"]) == ("active", "pending")
        server.restart()
        await eventually(
            lambda: Api(http, balancer.url).call("waits"), 20, until=lambda call: call is not None
        )
        for call_id, before in (("runs", runs), ("waits", waits)):
            (session,) = (await Api(http, balancer.url).call(call_id))["sessions"]
            assert (session["sessionId"], session["state"]) == (
                before.body["sessionId"],
                before.body["state"],
            )


@pytest.fixture
def guarded(new_redis, tmp_path):
    """A Redis whose users are those of the example, each with the password that stands there."""
    users = tmp_path / "users.acl"
    users.write_text(EVERYBODY)
    server = new_redis("--include", str(CONFIGURATION), "--aclfile", str(users))
    users.write_text(USERS.read_text())
    server.command("ACL", "LOAD")
    return server


@pytest.mark.slow
async def test_all_programs_work_with_the_rights_that_the_access_list_gives(guarded, http):
    url = f"redis://mediaflow:PASSWORD@127.0.0.1:{guarded.port}/0"
    with contextlib.closing(Fleet(environ={"MEDIAFLOW_REDIS_URL": url})) as fleet:
        concurrency = fleet.start("concurrency")
        first, balancer, *_ = await asyncio.gather(
            fleet.worker("w1", 1), fleet.balancer(), fleet.watchdog(), concurrency.ready()
        )
        api = Api(http, balancer.url)
        await eventually(api.instances, 20, until=lambda found: len(found) == 1)
        assert (await api.submit("one")).body["state"] == "active"
        assert (await api.submit("two")).body["state"] == "pending"
        await fleet.worker("w2", 1)
        await eventually(lambda: api.call("two"), 20, until=lambda call: call["state"] == "active")
        first.terminate()
        assert await first.ended() == 0
        assert await api.end("two") == 204
        await eventually(lambda: api.call("one"), 20, until=lambda call: call["state"] == "active")
        started = await Api(http, concurrency.url).ask(
            "POST", "/v1/users/ann/streams", json={"deviceId": "tv"}
        )
        assert (started.status, started.body["degraded"]) == (201, False)
    with redis.Redis(port=guarded.port, username="admin", password="ADMIN-PASSWORD") as admin:
        assert admin.acl_log() == []


def test_nobody_else_is_let_in(guarded):
    with redis.Redis(port=guarded.port) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()
    ours = redis.Redis(port=guarded.port, username="mediaflow", password="PASSWORD")
    with ours, pytest.raises(redis.exceptions.NoPermissionError):
        ours.set("another:key", "1")


@pytest.mark.slow
def test_a_replica_follows_with_the_rights_that_the_access_list_gives(guarded, new_redis):
    new_redis(
        *("--replicaof", "127.0.0.1", str(guarded.port)),
        *("--masteruser", "replica", "--masterauth", "REPLICA-PASSWORD"),
    )
    with redis.Redis(port=guarded.port, username="admin", password="ADMIN-PASSWORD") as admin:
        assert admin.wait(1, 20_000) == 1


def test_the_rights_are_those_of_the_page_on_security():
    page = (CONFIG / "security.md").read_text()
    shown = re.search(r"redis-cli ACL SETUSER (mediaflow (?:[^\n]*\\\n)*[^\n]*)\n", page)
    assert shown is not None
    (ours,) = [line for line in USERS.read_text().splitlines() if line.startswith("user mediaflow ")]
    assert ours.split()[1:] == shlex.split(shown[1].replace("\\\n", ""))
