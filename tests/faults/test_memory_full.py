"""Redis at its memory limit: new calls are refused, and the ones that run go on."""

import pytest
from harness.laboratory import report

from mediaflow.settings import Settings
from mediaflow.store import Claim, Grant, NewSession, Owner, SessionRef, StoreUnavailable, open_store

pytestmark = pytest.mark.redis

OWNER = Owner("instance-1", 1, "000000000000001:instance-1")
HEIR = Owner("instance-2", 2, "000000000000002:instance-2")


def new(call_id: str) -> NewSession:
    return NewSession(
        call_id=call_id,
        session_id="000000000001-000-0000000001",
        idempotency_key="key",
        body_digest="digest",
        metadata=b"{}",
        owner=OWNER,
    )


async def test_g9_a_full_memory_refuses_new_calls_and_keeps_every_lease(redis_server):
    store = await open_store(Settings(redis_url=redis_server.url))
    try:
        created = await store.create(new("call-1"))
        claim = Claim("call-1", created.session_id, created.fence)
        redis_server.command("CONFIG", "SET", "maxmemory", "1mb")

        with pytest.raises(StoreUnavailable, match="maxmemory"):
            await store.create(new("call-2"))
        assert await store.describe("call-2") is None, "a refused call leaves nothing behind"

        await store.check()  # with which each heartbeat begins
        assert (await store.heartbeat(report("instance-1"))).status == "alive"
        assert [one.instance_id for one in await store.instances()] == ["instance-1"]
        assert (await store.renew(OWNER, claim)).status == "renewed"
        assert (await store.checkpoint(OWNER, claim, 1, b"1")).status == "written"
        assert (await store.release(OWNER, claim, "drained")).status == "written"
        (partition,) = [view.partition for view in await store.tick() if view.waiting]
        ref = SessionRef("call-1", created.session_id)
        assert await store.assign(partition, [Grant(ref, HEIR)], "operation") == ["assigned"]
        call = await store.describe("call-1")
        assert call is not None
        claim = claim._replace(fence=call.sessions[0].fence)
        assert (await store.accept(HEIR, claim)).status == "accepted"
        assert (await store.complete(HEIR, claim)).status == "written"
    finally:
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
        await store.close()
