"""A cluster and sentinels over TLS, with the rights that the page on security gives and no more."""

import re
import shlex

import pytest
import redis
from conftest import needs_redis
from harness.deployment import CONFIG
from harness.guarded import GuardedCluster, GuardedTrio
from harness.laboratory import Laboratory

from mediaflow.settings import Settings
from mediaflow.store import StoreUnavailable, open_store
from mediaflow.store.examination import examine

pytestmark = [pytest.mark.redis, pytest.mark.slow]

PRYING = {"config|get", "script|load", "cluster|info", "client|setinfo"}
"""What the doctor asks for where it may, and does without where it may not; and what redis-py does."""

PAGE = (CONFIG / "security.md").read_text()


def rights_of(user: str) -> list[str]:
    """Return the rights that the page gives to a user, behind its password."""
    shown = re.search(rf"(?:ACL SETUSER|: +user) ({user} (?:[^\n]*\\\n)*[^\n]*)\n", PAGE)
    assert shown is not None, user
    return shlex.split(shown[1].replace("\\\n", ""))[3:]


@pytest.fixture(scope="module", params=["cluster", "sentinel"])
def guarded(request):
    needs_redis()
    rights = rights_of("mediaflow")
    made = (
        GuardedCluster([*rights, "+asking", "+cluster|slots"])
        if request.param == "cluster"
        else GuardedTrio(rights, rights_of("watcher"))
    )
    yield made
    made.close()


async def test_a_user_with_the_rights_of_the_page_lives_through_a_call_over_tls(guarded):
    found = await examine(Settings(redis_url=guarded.url), lambda: 1_700_000_000_000)
    assert found.unreachable == ""
    assert (found.rehearsal, found.deaf) == ("", "")
    assert "word" not in found.address.replace("sentinel_password=***", "")
    settings = Settings(redis_url=guarded.url, durability_replicas=1)
    store = await open_store(settings)
    lab = Laboratory(store, settings, guarded.raw)
    try:
        for number in range(20):
            claim = await lab.hold(call_id=f"call-{number}", timeout_s=5.0)
            assert (await store.describe(claim.call_id)).state == "active"
    finally:
        await store.close()
    refused = {
        entry["object"]
        for server in guarded.servers
        for entry in redis.Redis(port=server.port, protocol=2).acl_log()
        if entry["username"] == "mediaflow"
    }
    assert refused <= PRYING, "something was asked that the user may not"


async def test_without_the_authority_or_the_password_nobody_is_let_in(guarded):
    without_ca = guarded.url.replace(f"ssl_ca_certs={guarded.guard.certificates.ca}", "")
    other_password = guarded.url.replace(guarded.guard.user, "mediaflow:guessed")
    for url in (without_ca, other_password):
        store = await open_store(Settings(redis_url=url))
        with pytest.raises(StoreUnavailable):
            await store.check(timeout_s=1.0)
        await store.close()
