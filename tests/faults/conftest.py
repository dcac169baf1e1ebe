"""Fixtures of the tests with real faults."""

import uuid

import pytest
from harness.processes import Fleet
from harness.proxied import meanwhile
from harness.stage import TTL_S, Stage, Stalls


@pytest.fixture
async def open_stage(http, journal):
    """Makes a stage on a Redis; its programs are killed in the end, and what they said is shown if it failed."""
    stages: list[Stage] = []
    stalls = Stalls()

    def make(url: str, *flags: str) -> Stage:
        fleet = Fleet(
            *("--redis", url, "--namespace", f"test-{uuid.uuid4().hex[:12]}", "--lease-ttl", f"{TTL_S:g}"),
            *flags,
            environ={"HARNESS_JOURNAL": str(journal)},
        )
        stages.append(Stage(fleet, http, journal, stalls))
        return stages[-1]

    async with meanwhile(stalls.run()):
        yield make
    for stage in stages:
        stage.fleet.close()
        print(stage.fleet.report())


@pytest.fixture
async def stage(open_stage, redis_server):
    """A stage on the private redis-server."""
    yield open_stage(redis_server.url)
    redis_server.thaw() if redis_server.running else None
