"""Fixtures of all tests; what they are made of is in ``harness``."""

import os
import uuid

import aiohttp
import msgspec
import pytest
import structlog
from harness.cluster import Cluster
from harness.processes import Fleet
from harness.redis import MISSING, RedisServer, find_redis_server
from harness.topologies import TOPOLOGIES, Topology

from mediaflow.settings import Settings
from mediaflow.store import open_store

_OUTCOME = pytest.StashKey[dict[str, pytest.TestReport]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.stash.setdefault(_OUTCOME, {})[report.when] = report
    return report


def needs_redis() -> None:
    """Skip where no redis-server is installed; in CI that would hide a missing test, and is a failure."""
    if find_redis_server() is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{MISSING}, and in CI it has to be there")
        pytest.skip(MISSING)


@pytest.fixture(autouse=True)
def _logging_is_as_it_was(monkeypatch):
    """Undo what a test sets up; a logger that keeps its set-up for good could not be captured by any later test."""
    configure = structlog.configure

    def for_this_test(**given) -> None:
        configure(**{**given, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", for_this_test)
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def _redis_of_module():
    needs_redis()
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def redis_server(_redis_of_module):
    """A private redis-server, empty, one for each module; a test may stop, restart and freeze it."""
    _redis_of_module.start()
    _redis_of_module.thaw()
    _redis_of_module.command("FLUSHALL")
    yield _redis_of_module
    _redis_of_module.thaw() if _redis_of_module.running else None


@pytest.fixture
def new_redis():
    """Makes servers with options, for tests that need persistence or several."""
    needs_redis()
    servers: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        server = RedisServer(*options)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def journal(tmp_path):
    """The folder in which the handlers of ``harness.handlers`` write what they saw."""
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def topologies():
    """Starts a kind of Redis when it is first asked for, by its name, and keeps it."""
    made: dict[str, Topology] = {}

    def get(name: str) -> Topology:
        if name != "memory":
            needs_redis()
        if name not in made:
            made[name] = TOPOLOGIES[name]()
        return made[name]

    yield get
    for one in made.values():
        one.close()


@pytest.fixture
def redis_url(redis_server):
    """Where the programs of ``fleet`` find Redis."""
    return redis_server.url


@pytest.fixture
def fleet(request, redis_url, journal):
    """Starts the real programs on ``redis_url``, in a namespace of their own; kills them in the end."""
    programs = Fleet(
        "--redis",
        redis_url,
        "--namespace",
        f"test-{uuid.uuid4().hex[:12]}",
        environ={"HARNESS_JOURNAL": str(journal)},
    )
    yield programs
    programs.close()
    outcome = request.node.stash.get(_OUTCOME, {}).get("call")
    if outcome is not None and outcome.failed:
        print(programs.report())


@pytest.fixture
async def http():
    """An HTTP client that waits longer than any program is allowed to."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=25)) as client:
        yield client


@pytest.fixture
def quick():
    """Settings on a store of the test's own inside this process, with the shortest lease that is allowed."""
    return Settings(redis_url=f"memory://test-{uuid.uuid4().hex}", lease_ttl=3.0, accept_ttl=0.5)


@pytest.fixture
def patient(quick):
    """The same with times so long that nothing lapses, however busy the machine."""
    return msgspec.structs.replace(quick, lease_ttl=60.0, accept_ttl=30.0)


@pytest.fixture
async def patient_store(patient):
    """The store that ``patient`` names."""
    store = await open_store(patient)
    await store.check()
    yield store
    await store.close()


@pytest.fixture
async def patient_cluster(patient_store, patient):
    """A cluster like ``cluster``, in which nothing lapses."""
    async with Cluster(patient_store, patient) as found:
        yield found


@pytest.fixture
async def memory_store(quick):
    """The store that ``quick`` names."""
    store = await open_store(quick)
    await store.check()
    yield store
    await store.close()


@pytest.fixture
async def cluster(memory_store, quick):
    """A cluster inside this process, empty at first: see ``harness.cluster``."""
    async with Cluster(memory_store, quick) as found:
        yield found
