"""Programs inside this process, behind real sockets, for those who throw bytes at them."""

import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator

import pytest
import structlog
from harness.waiting import eventually

from mediaflow.concurrency.app import build as concurrency
from mediaflow.loadbalancer.app import build as loadbalancer
from mediaflow.settings import Settings
from mediaflow.watchdog.app import build as watchdog
from mediaflow.web.hosting import Hosted, hosted
from mediaflow.worker import hold, hosting

BUILDS = {
    "worker": hosting(hold),
    "loadbalancer": loadbalancer,
    "watchdog": watchdog,
    "concurrency": concurrency,
}


@pytest.fixture
def hosting_of():
    """Hosts a program by name, on a free port and a store of its own unless settings say otherwise."""

    @contextlib.asynccontextmanager
    async def host(name: str, **settings) -> AsyncGenerator[Hosted]:
        given = {"redis_url": f"memory://{uuid.uuid4().hex}", "port": 0, "slots": 5, **settings}
        async with hosted(name, Settings(**given), BUILDS[name]) as found:
            await eventually(lambda: not found.program.problem(), 10, about=f"{name} is ready")
            yield found

    return host


@pytest.fixture
def logged(caplog):
    """All that is logged meanwhile, ours and others', each with its level first."""
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as ours:

        def lines() -> list[str]:
            others = [
                f"{record.levelname.lower()} {record.name} {record.getMessage()}" for record in caplog.records
            ]
            return [f"{entry['log_level']} {entry}" for entry in ours] + others

        yield lines


@pytest.fixture
def no_fault_logged(logged):
    """Fails the test if anything was logged at level error or above."""
    yield
    faults = [line for line in logged() if line.startswith(("error", "critical")) or "Traceback" in line]
    assert not faults, "\n".join(faults)
