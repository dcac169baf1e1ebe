"""One store after the other: in this process, on a server, on a cluster, behind a sentinel."""

import uuid

import msgspec
import pytest
from conftest import needs_redis
from harness.laboratory import Laboratory
from harness.topologies import InProcess, OneServer

from mediaflow.settings import Settings
from mediaflow.store import open_store

TOPOLOGIES = [
    "memory",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("cluster", marks=[pytest.mark.redis, pytest.mark.slow]),
    pytest.param("sentinel", marks=[pytest.mark.redis, pytest.mark.slow]),
]


def settings_on(url: str, **changes) -> Settings:
    """The shortest lease, few partitions: what makes tests quick."""
    quick = {"lease_ttl": 3.0, "accept_ttl": 0.5, "retention": 60.0, "partitions": 3, "max_takeovers": 2}
    return Settings(redis_url=url, **{**quick, **changes})


@pytest.fixture(scope="session", params=TOPOLOGIES)
def topology(request, topologies):
    return topologies(request.param)


@pytest.fixture(scope="session")
def one_server():
    needs_redis()
    made = OneServer()
    yield made
    made.close()


async def _laboratory(topology):
    topology.empty()
    # Messages between the servers of a cluster may arrive when the test that caused them is over.
    settings = settings_on(topology.url, namespace=f"test-{uuid.uuid4().hex[:12]}")
    store = await open_store(settings)
    await store.check()
    yield Laboratory(store, settings, topology.raw)
    await store.close()


@pytest.fixture
async def lab(topology):
    """An empty store, on each topology in turn."""
    async for made in _laboratory(topology):
        yield made


@pytest.fixture
async def memory_lab():
    """An empty store in this process."""
    topology = InProcess()
    async for made in _laboratory(topology):
        yield made
    topology.close()


@pytest.fixture
async def redis_lab(one_server):
    """An empty store on a redis-server."""
    async for made in _laboratory(one_server):
        yield made


@pytest.fixture
async def bare_lab(one_server):
    """A redis-server with one partition and nothing else in it."""
    one_server.empty()
    settings = settings_on(one_server.url, partitions=1, max_takeovers=5, accept_ttl=2.0)
    store = await open_store(settings)
    await store.check()
    yield Laboratory(store, settings, one_server.raw)
    await store.close()


@pytest.fixture
async def second_store(lab):
    """Opens further stores on the Redis of ``lab``."""
    opened = []

    async def open_another(**changes):
        opened.append(await open_store(msgspec.structs.replace(lab.settings, **changes)))
        return opened[-1]

    yield open_another
    for store in opened:
        await store.close()
