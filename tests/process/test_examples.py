"""The examples do what they show, as real processes, without Redis."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MEDIAFLOW_")}
    return clean | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "REDIS_URL": "memory://", "PORT": "0"}


async def spawn(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@asynccontextmanager
async def serving(*arguments: str) -> AsyncIterator[str]:
    """Run a web example, give its address, interrupt it, and expect a clean end."""
    process = await spawn(*arguments)
    assert process.stdout is not None
    printed = b""
    try:
        async with asyncio.timeout(20):
            while not (found := re.search(rb"[Rr]unning on (http://\S+)", printed)):
                line = await process.stdout.readline()
                assert line, f"it ended before it served: {printed.decode()}"
                printed += line
        yield found[1].decode()
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            printed += await process.stdout.read()
            status = await process.wait()
        assert b"Traceback" not in printed, printed.decode()
        assert status in {0, -signal.SIGINT}, printed.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_embedded_example_runs_a_call_from_start_to_end() -> None:
    process = await spawn(str(EXAMPLES / "embedded.py"))
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    printed = out.decode()
    assert process.returncode == 0, printed
    assert re.search(r"^call-42 is active on \S+$", printed, re.MULTILINE)
    of_call = re.findall(r"^call-42(?:: \d+| ended: \w+)$", printed, re.MULTILINE)
    assert of_call[:3] == ["call-42: 1", "call-42: 2", "call-42: 3"]
    assert of_call[-1] == "call-42 ended: cancelled"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((str(EXAMPLES / "aiohttp_app.py"),), id="aiohttp"),
        pytest.param(
            ("-m", "uvicorn", "--app-dir", str(EXAMPLES), "--port", "0", "fastapi_app:app"), id="fastapi"
        ),
    ],
)
async def test_a_web_application_starts_and_ends_calls(arguments: tuple[str, ...]) -> None:
    async with (
        serving(*arguments) as url,
        aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=10)) as client,
    ):
        async with client.post("/rooms/7/recording") as answer:
            first = await answer.json()
            assert (answer.status, first["state"]) == (201, "active")
        async with client.post("/rooms/7/recording") as answer:
            assert (answer.status, await answer.json()) == (200, first)
        async with client.delete("/rooms/7/recording") as answer:
            assert answer.status == 204
        async with client.post("/rooms/7/recording") as answer:
            again = await answer.json()
            assert answer.status == 201
            assert again["session"] != first["session"]
