"""Redis URLs: what is wrong with one is said at the start, and each topology that is written rightly is reached."""

import asyncio

import pytest

from mediaflow.settings import Settings, SettingsError
from mediaflow.store import StoreUnavailable, open_store


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://host", "use redis://"),
        ("redis://:secret@host:notaport", "notaport"),
        ("redis://host/mydata", "'mydata' is not the number of a database"),
        ("redis://host?sokcet_timeout=1", "there is no option 'sokcet_timeout'"),
        ("unix://", "name the socket"),
        ("rediss://host?ssl_ca_certs=/no/such/file", "'/no/such/file', which is not a file"),
        ("rediss+cluster://host:1?ssl_ca_certs=/no/such/file", "'/no/such/file', which is not a file"),
        ("redis+sentinel://host:1", "name the service"),
        ("redis+sentinel://host:1/service/mydata", "'mydata' is not the number of a database"),
        ("redis+sentinel://host:1/service?sentinel_pasword=x", "there is no option 'sentinel_pasword'"),
        ("redis+cluster://", "not host:port"),
        ("redis+cluster://host:99999", "not host:port"),
    ],
)
async def test_a_url_that_cannot_work_is_refused_in_one_line_without_its_password(url, told):
    with pytest.raises(SettingsError) as refused:
        await open_store(Settings(redis_url=url))
    message = str(refused.value)
    assert told in message
    assert message.startswith("Redis URL '")
    assert "\n" not in message
    assert "secret" not in message


@pytest.mark.redis
@pytest.mark.parametrize("query", ["", "?db=3"])
async def test_a_unix_socket_is_reached(tmp_path, new_redis, query):
    socket = tmp_path / "redis.sock"
    new_redis("--unixsocket", str(socket))
    store = await open_store(Settings(redis_url=f"unix://{socket}{query}"))
    await store.check()
    assert await store.instances() == []
    await store.close()


@pytest.fixture
async def nobody() -> str:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"127.0.0.1:{port}"


@pytest.mark.parametrize("url", ["redis+sentinel://{}/mymaster", "redis+cluster://{}", "redis://{}"])
async def test_who_does_not_answer_is_told_of_in_a_short_line(nobody, url):
    store = await open_store(Settings(redis_url=url.format(nobody)))
    with pytest.raises(StoreUnavailable) as refused:
        await store.check(timeout_s=0.1)
    await store.close()
    message = str(refused.value)
    assert len(message) < 250
    assert "object at 0x" not in message
    assert not message.endswith(".")


async def test_listening_outlives_a_cluster_that_is_not_there_yet(nobody):
    store = await open_store(Settings(redis_url=f"redis+cluster://{nobody}"))
    listening = asyncio.ensure_future(anext(aiter(store.inbox("alpha"))))
    done, _ = await asyncio.wait([listening], timeout=0.3)
    assert not done, "the listener gave up"
    listening.cancel()
    await asyncio.wait([listening])
    await store.close()
