"""A call that kills whoever runs it is parked before it has killed the fleet."""

import asyncio

import pytest
from harness.api import Api
from harness.handlers import of_call, read_journal
from harness.poison import STATUS
from harness.proxied import meanwhile
from harness.puppets import create_call
from harness.waiting import eventually

from mediaflow.settings import Settings
from mediaflow.store import open_store

pytestmark = [pytest.mark.redis, pytest.mark.slow]

MAX_TAKEOVERS = 2


class Supervised:
    """A worker that is started again whenever it dies, as any supervisor would."""

    def __init__(self, fleet, instance_id: str, slots: int) -> None:
        self._fleet = fleet
        self._arguments = (
            "--instance-id",
            instance_id,
            "--slots",
            str(slots),
            "--app",
            "harness.poison:handle",
        )
        self.deaths: list[int] = []

    async def run(self) -> None:
        while True:
            # Not asked whether it is ready: it may be given the call, and die of it, before it has said so.
            self.deaths.append(await self._fleet.start("worker", *self._arguments).ended(60))


async def test_g6_a_call_that_kills_every_worker_is_parked_and_the_fleet_survives(
    fleet, http, journal, redis_server
):
    fleet.flags += ("--lease-ttl", "3", "--max-takeovers", str(MAX_TAKEOVERS))
    namespace = fleet.flags[fleet.flags.index("--namespace") + 1]
    store = await open_store(Settings(redis_url=redis_server.url, namespace=namespace))
    steady, _ = await asyncio.gather(
        fleet.worker("steady", 1, "--app", "harness.poison:handle"), fleet.watchdog()
    )
    api = Api(http, steady.url)
    try:
        await store.check()
        # It fills the one worker that is to stay: its slots keep the poison out.
        assert (await api.submit("healthy-1")).body["owner"] == "steady"
        victim = Supervised(fleet, "victim", 2)
        async with meanwhile(victim.run()):
            made = await create_call(store, "poison")
            assert made.state == "pending"

            async def parked():
                call = await api.call("poison")
                return call if call["state"] == "failed" else None

            call = await eventually(parked, 40, every_s=0.1)
            (session,) = call["sessions"]
            assert (session["state"], session["endReason"]) == ("failed", "failed")
            events = await api.history("poison")
            assert events[-1]["event"] == "session.failed"
            assert events[-1]["reason"].startswith(f"parked: {MAX_TAKEOVERS} takeovers in a row")
            # The one that it was given to first, and as many as may take it over.
            starts = [entry for entry in of_call(read_journal(journal), "poison") if entry.what == "start"]
            assert len(starts) == MAX_TAKEOVERS + 1
            assert len({entry.fence for entry in starts}) == len(starts)
            assert [event["event"] for event in events].count("session.takeover") == MAX_TAKEOVERS

            # The fleet lives on, and takes calls.
            await eventually(lambda: len(victim.deaths) == MAX_TAKEOVERS + 1, 10)
            assert victim.deaths == [STATUS] * (MAX_TAKEOVERS + 1)
            await create_call(store, "healthy-2")

            async def owners():
                return await api.owners() == {"healthy-1": "steady", "healthy-2": "victim"}

            await eventually(owners, 20, every_s=0.1)
            assert len(victim.deaths) == MAX_TAKEOVERS + 1
            assert steady.returncode is None
    finally:
        await store.close()
