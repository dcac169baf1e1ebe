"""What containers and clusters ask of running programs: how they are, and what workers are scaled by."""

import asyncio
import os
import re
import subprocess
import sys

import pytest
from harness.api import Api
from harness.deployment import CONFIG
from harness.ports import free_port
from harness.waiting import eventually

pytestmark = pytest.mark.redis

HEALTHCHECK = CONFIG / "docker" / "healthcheck.py"
ADAPTER = CONFIG / "kubernetes" / "autoscaling" / "prometheus-adapter.yaml"


async def check(path: str, port: int | str) -> tuple[int, str]:
    """Run the health check as the image does; return its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", HEALTHCHECK, path),
        env={**os.environ, "MEDIAFLOW_PORT": str(port)},
        stderr=subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.mark.slow
async def test_the_health_check_knows_ready_from_alive_and_says_what_is_wrong(fleet, redis_server):
    program = fleet.start("loadbalancer")
    port = (await program.ready()).rpartition(":")[2]
    await eventually(lambda: check("/readyz", port), 20, until=lambda found: found == (0, ""))
    redis_server.stop()
    status, said = await eventually(lambda: check("/readyz", port), 20, until=lambda found: found[0] != 0)
    assert status == 1
    assert re.fullmatch(r"503: .*Redis.*\n", said), said
    assert await check("/healthz", port) == (0, "")


async def test_the_health_check_of_a_program_that_is_gone_fails_in_a_line():
    status, said = await check("/healthz", port := free_port())
    assert status == 1
    assert re.fullmatch(rf"no answer at port {port}: .*refused\n", said), said


def values(exposition: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in re.findall(
            r'^(mediaflow_\w+(?:\{state="pending"\})?) (\S+)$', exposition, re.MULTILINE
        )
    }


@pytest.mark.slow
async def test_workers_are_scaled_by_metrics_that_programs_have(fleet, http):
    _, balancer, watchdog = await asyncio.gather(fleet.worker("w1", 1), fleet.balancer(), fleet.watchdog())
    api = Api(http, balancer.url)
    await eventually(api.instances, 20, until=lambda found: len(found) == 1)
    assert (await api.submit("runs")).body["state"] == "active"
    assert (await api.submit("waits")).body["state"] == "pending"

    async def measured():
        pages = [(await http.get(f"{program.url}/metrics")) for program in (balancer, watchdog)]
        of_balancer, of_watchdog = [values(await page.text()) for page in pages]
        assert of_balancer["mediaflow_fleet_slots"] == 1
        return (
            of_balancer["mediaflow_fleet_slots"]
            - of_balancer["mediaflow_fleet_free_slots"]
            + of_watchdog['mediaflow_namespace_sessions{state="pending"}']
        )

    # One slot is taken, and one session waits: two are wanted.
    await eventually(measured, 20, until=lambda found: found == 2)
    used = set(re.findall(r"\bmediaflow_\w+", ADAPTER.read_text())) - {"mediaflow_wanted_slots"}
    assert used == {
        "mediaflow_fleet_slots",
        "mediaflow_fleet_free_slots",
        "mediaflow_namespace_sessions",
    }
