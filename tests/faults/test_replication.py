"""``durability_replicas``: a call is acknowledged only once replicas hold it."""

import msgspec
import pytest
from harness.waiting import eventually

from mediaflow.settings import Settings
from mediaflow.store import NewSession, NotDurable, open_store

pytestmark = [pytest.mark.redis, pytest.mark.slow]

NEW = NewSession(
    call_id="call-1",
    session_id="000000000001-000-0000000001",
    idempotency_key="key",
    body_digest="digest",
    metadata=b"{}",
    owner=None,
)


async def test_g2_a_call_is_acknowledged_only_when_a_replica_holds_it(new_redis):
    primary = new_redis()
    replica = new_redis("--replicaof", "127.0.0.1", str(primary.port))
    await eventually(lambda: b"state=online" in primary.command("INFO", "replication"), within_s=20)
    store = await open_store(Settings(redis_url=primary.url, durability_replicas=1))
    try:
        assert (await store.create(NEW)).status == "created"
        replica.freeze()
        # Another call: of the first one the replica may have told already that it has all of it.
        other = msgspec.structs.replace(NEW, call_id="call-2")
        with pytest.raises(NotDurable, match="0 of 1 replicas"):
            await store.create(other, timeout_s=0.5)
        with pytest.raises(NotDurable, match="0 of 1 replicas"):
            await store.create(other, timeout_s=0.5)
        replica.thaw()
        assert (await store.create(other)).status == "repeated", "asked again, it is the same session"
    finally:
        await store.close()
