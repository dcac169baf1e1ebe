"""What users get: their own handler under faults, and an example that finds a real mistake."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from mediaflow.testing import BrokenPromise, Simulation

pytest_plugins = ["mediaflow.testing.plugin"]

ROOT = Path(__file__).parents[2]


async def hold(session) -> None:
    await session.checkpoint({"held": True})
    await asyncio.Event().wait()


def test_a_scenario_shows_what_a_pause_does_to_a_call(simulation: Simulation):
    seen: list[list[str]] = []

    async def scenario(cluster):
        cluster.start("ann", hold)
        await asyncio.sleep(1)
        await cluster.submit("call")
        first = await cluster.until_running("call")
        cluster.start("bob", hold)
        await asyncio.sleep(1)
        cluster.pause(first)
        await asyncio.sleep(5)
        seen.append(cluster.running_on("call"))
        cluster.resume(first)
        await asyncio.sleep(1)
        seen.append(cluster.running_on("call"))

    simulation.play(scenario)
    assert seen == [["ann", "bob"], ["bob"]]


def test_a_broken_promise_names_its_seed_and_shows_what_led_to_it(simulation: Simulation):
    def overeager(cluster):
        async def handler(session) -> None:
            while True:
                cluster.effect(session, "unchecked")
                await asyncio.sleep(0.3)

        return handler

    with pytest.raises(BrokenPromise) as broken:
        simulation.torment(overeager, faults=["pause"], seeds=20)
    said = str(broken.value)
    assert "again: first=" in said
    assert "paused" in said
    assert "unchecked" in said


def test_an_unknown_fault_is_refused_by_name(simulation: Simulation):
    with pytest.raises(ValueError, match="'earthquake'"):
        simulation.torment(lambda _: hold, faults=["earthquake"])


def test_the_example_finds_the_missing_check(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "examples/test_biller.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
