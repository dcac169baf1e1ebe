"""``durability_replicas`` over HTTP: an acknowledged call is on the replicas, and one that is not is told of (G2)."""

import asyncio

import pytest
from harness.api import Answer, Api
from harness.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]


def says_that_it_may_have_happened(answer: Answer) -> bool:
    return (
        answer.status == 503
        and answer.headers["Content-Type"] == "application/problem+json"
        and int(answer.headers["Retry-After"]) >= 1
        and "0 of 1 replicas" in answer.body["detail"]
        and "Idempotency-Key" in answer.body["detail"]
    )


async def test_a_call_that_no_replica_holds_is_not_acknowledged_and_repeated_it_is_the_same(
    fleet, http, redis_server, new_redis
):
    replica = new_redis("--replicaof", "127.0.0.1", str(redis_server.port))
    workers, balancer = await asyncio.gather(
        fleet.workers("w1", "w2", arguments=("--durability-replicas", "1")), fleet.balancer()
    )
    everyone = api, *_ = [Api(http, program.url) for program in (balancer, *workers)]
    await eventually(api.instances, 5, until=lambda found: len(found) == 2)
    await eventually(lambda: b"state=online" in redis_server.command("INFO", "replication"), 20)
    enough = await asyncio.gather(*(one.submit(f"held-{n}") for n, one in enumerate(everyone)))
    assert [answer.status for answer in enough] == [201] * 3

    replica.freeze()
    too_few = await asyncio.gather(
        *(one.submit(f"call-{n}", key=f"key-{n}") for n, one in enumerate(everyone))
    )
    assert all(map(says_that_it_may_have_happened, too_few)), too_few
    # By another worker, whose connections have written nothing of it: it is as little on the replica.
    elsewhere = await asyncio.gather(*(everyone[2 - n].submit(f"call-{n}", key=f"key-{n}") for n in range(3)))
    assert all(map(says_that_it_may_have_happened, elsewhere)), elsewhere
    made = [[one["sessionId"] for one in (await api.call(f"call-{n}"))["sessions"]] for n in range(3)]

    replica.thaw()
    repeated = await asyncio.gather(
        *(
            eventually(
                lambda n=n: api.submit(f"call-{n}", key=f"key-{n}"),
                20,
                until=lambda found: found.status == 201,
            )
            for n in range(3)
        )
    )
    assert [[answer.body["sessionId"]] for answer in repeated] == made
    assert [len((await api.call(f"call-{n}"))["sessions"]) for n in range(3)] == [1, 1, 1]
