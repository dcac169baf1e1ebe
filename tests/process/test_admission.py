"""Calls that count for an account, over real processes: one product with the concurrency service, not two."""

import asyncio

import pytest
from harness.api import Api
from harness.waiting import eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]

RULES = ("--stream-limit", "1", "--stream-ttl", "4", "--stream-heartbeat-interval", "0.5")
ANNA = {"Mediaflow-Account": "anna%20b"}
STREAMS = "/v1/users/anna%20b/streams"


class Stage:
    """A balancer, two workers, a watchdog and a concurrency service with a limit of one."""

    def __init__(self, fleet, http):
        self._fleet, self._http = fleet, http

    async def __aenter__(self):
        self.workers = {
            name: self._fleet.start("worker", "--instance-id", name, "--lease-ttl", "3", *RULES)
            for name in ("one", "two")
        }
        programs = [
            self._fleet.start("loadbalancer", "--lease-ttl", "3"),
            self._fleet.start("watchdog", "--lease-ttl", "3"),
            self._fleet.start("concurrency", *RULES),
        ]
        urls = await asyncio.gather(*(one.ready() for one in [*programs, *self.workers.values()]))
        self.balancer, self.streams = Api(self._http, urls[0]), Api(self._http, urls[2])
        await eventually(self.balancer.instances, 20, until=lambda found: len(found) == 2)
        await eventually(lambda: self.balancer.gauge("instances"), 20, until=lambda found: found == 2)
        return self

    async def __aexit__(self, *error):
        return None

    async def start(self, call_id, **headers):
        return await self.balancer.ask("POST", f"/calls/{call_id}", json={}, headers={**ANNA, **headers})

    async def state(self, call_id):
        return (await self.balancer.call(call_id))["state"]

    async def playing(self):
        return (await self.streams.ask("GET", STREAMS)).body["streams"]


async def test_one_call_too_many_is_refused_with_the_conflicts_and_an_ended_one_frees_the_place(fleet, http):
    async with Stage(fleet, http) as stage:
        assert (await stage.start("call-1")).status == 201
        refused = await stage.start("call-2")
        assert refused.status == 409
        assert refused.headers["Content-Type"].startswith("application/problem+json")
        as_a_player = await stage.streams.ask("POST", STREAMS, json={"deviceId": "tv"})
        assert refused.body == as_a_player.body, "the very answer of the concurrency service"
        assert refused.body["conflicts"][0]["metadata"] == {"callId": "call-1"}
        assert refused.body["advice"][0]["threshold"] == 1
        assert (await stage.start("call-1")).status == 200
        assert await stage.balancer.end("call-1") == 204
        await eventually(stage.playing, 2, until=lambda found: found == [])
        assert (await stage.start("call-2")).status == 201


async def test_after_its_owner_was_killed_a_call_keeps_its_place(fleet, http):
    async with Stage(fleet, http) as stage:
        owner = (await stage.start("call-1")).body["owner"]
        [before] = await stage.playing()
        stage.workers[owner].kill()
        moved = await eventually(
            stage.balancer.owners, 20, until=lambda found: found.get("call-1") not in (None, owner)
        )
        assert moved["call-1"] != owner
        # Longer than a stream lives by itself: the new owner's heartbeats, and nothing else, keep it.
        later = await eventually(
            stage.playing,
            20,
            until=lambda found: found and found[0]["expiresAt"][:19] > _plus(before["expiresAt"], 5),
        )
        assert later[0]["startedAt"] == before["startedAt"]
        assert (await stage.start("call-2")).status == 409


async def test_a_call_whose_stream_is_ended_by_its_code_is_ended_with_the_reason(fleet, http):
    async with Stage(fleet, http) as stage:
        await stage.start("call-1")
        code = (await stage.start("call-2")).body["conflicts"][0]["terminationCode"]
        taken = await stage.streams.ask("POST", STREAMS, json={"deviceId": "tv", "terminate": [code]})
        assert taken.status == 201
        await eventually(lambda: stage.state("call-1"), 10, until=lambda state: state == "cancelled")
        last = (await stage.balancer.history("call-1"))[-1]
        assert "taken over by device tv" in last["reason"]
        assert (await stage.start("call-2")).status == 409, "the player has the place now"


def _plus(at: str, seconds: int) -> str:
    from datetime import datetime, timedelta

    return (datetime.fromisoformat(at) + timedelta(seconds=seconds)).isoformat()[:19]
