"""A Redis that is slow, and not away: it is reached all the same, by connections that are made to their end."""

import pytest
from harness.proxy import Proxy

from mediaflow.settings import Settings
from mediaflow.store import StoreUnavailable, open_store

pytestmark = pytest.mark.redis


@pytest.mark.slow
async def test_a_redis_whose_answers_take_almost_half_a_second_is_reached(redis_server):
    async with Proxy(redis_server.port) as proxy:
        proxy.delay(0.21)
        store = await open_store(Settings(redis_url=proxy.url))
        try:
            await store.check(timeout_s=20)
        finally:
            await store.close()


async def test_a_connection_is_made_though_who_asked_for_it_gave_up(redis_server):
    async with Proxy(redis_server.port) as proxy:
        store = await open_store(Settings(redis_url=proxy.url))
        try:
            proxy.hold_replies()
            with pytest.raises(StoreUnavailable):
                await store.check(timeout_s=0.2)
            proxy.heal()
            await store.check(timeout_s=20)
            assert proxy.accepted == 1, "the handshake was begun anew"
        finally:
            await store.close()


async def test_closing_a_store_ends_a_connection_that_is_still_being_made(redis_server):
    async with Proxy(redis_server.port) as proxy:
        proxy.hold_replies()
        store = await open_store(Settings(redis_url=proxy.url))
        with pytest.raises(StoreUnavailable):
            await store.check(timeout_s=0.2)
        await store.close()
