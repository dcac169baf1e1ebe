"""`mediaflow submit`, `mediaflow status` and `submit_calls.sh` against a balancer that answers as a test says."""

import asyncio
import json
import os
import shutil
import subprocess
from collections import defaultdict
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from harness.processes import Program

from mediaflow.cli.__main__ import main

SCRIPT = Path(__file__).parents[2] / "examples" / "submit_calls.sh"


class Balancer:
    """Answers 201, unless ``refuses`` or ``drops`` name the call; remembers what it was asked."""

    def __init__(self) -> None:
        self.refuses: set[str] = set()
        self.drops: dict[str, int] = {}
        self.keys: dict[str, list[str]] = defaultdict(list)
        self.bodies: dict[str, object] = {}
        self.ended: list[str] = []
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/instances", self._instances)
        app.router.add_get("/calls", self._calls)
        app.router.add_post("/calls/{call_id:[^/]+}", self._place)
        app.router.add_delete("/calls/{call_id:[^/]+}", self._end)
        return app

    async def _healthz(self, _):
        return web.json_response({"status": "alive"})

    async def _place(self, request):
        call_id = request.match_info["call_id"]
        self.keys[call_id].append(request.headers["Idempotency-Key"])
        self.bodies[call_id] = json.loads(await request.read())
        if self.drops.get(call_id, 0) > 0:
            self.drops[call_id] -= 1
            request.transport.close()
            return web.Response()
        if call_id in self.refuses:
            body = {"title": "Service Unavailable", "status": 503, "detail": "every slot is taken"}
            return web.json_response(body, status=503)
        body = {"callId": call_id, "sessionId": "s", "state": "active", "owner": "worker-1", "fence": 1}
        return web.json_response(body | {"created": True}, status=201)

    async def _end(self, request):
        self.ended.append(request.match_info["call_id"])
        return web.Response(status=204)

    async def _instances(self, _):
        view = {
            "address": "127.0.0.1:50001",
            "slots": 100,
            "used": 7,
            "state": "ready",
            "heartbeatAgeMs": 1234,
        }
        names = ["worker-1", "a-host-with-quite-a-long-name-4711-worker-2"]
        return web.json_response({"instances": [{"instanceId": name} | view for name in names]})

    async def _calls(self, request):
        first = "cursor" not in request.query
        calls = [
            {"callId": f"{first}-{i}", "state": "active" if first else "cancelled", "sessions": []}
            for i in range(3)
        ]
        return web.json_response({"calls": calls, "cursor": "next" if first else None})


@pytest.fixture
async def balancer():
    balancer = Balancer()
    async with TestServer(balancer.app()) as server:
        balancer.url = f"http://127.0.0.1:{server.port}"
        yield balancer


@asynccontextmanager
async def ended(*arguments: str, **environ: str):
    program = Program("mediaflow", *arguments, environ=environ)
    try:
        await program.ended()
        yield program
    finally:
        program.close()


async def test_submitted_calls_are_counted_and_timed(balancer):
    arguments = ("--calls", "30", "--rate", "0", "--prefix", "room-", "--metadata", '{"room": 7}', "--json")
    async with ended("submit", "--url", balancer.url, *arguments) as submit:
        assert submit.returncode == 0, submit.report()
        result = json.loads(submit.stdout[-1])
    assert (result["accepted"], result["created"], result["refused"]) == (30, 30, 0)
    assert result["statuses"] == {"201": 30}
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"] <= result["latency_ms"]["max"]
    assert set(balancer.bodies) == {f"room-{i}" for i in range(1, 31)}
    assert all(body == {"room": 7} for body in balancer.bodies.values())
    assert len({key for keys in balancer.keys.values() for key in keys}) == 30
    assert balancer.ended == []


async def test_a_refused_call_is_told_with_its_reason_and_exit_status_1(balancer):
    balancer.refuses = {"x-2"}
    async with ended(
        "submit", "--url", balancer.url, "--calls", "3", "--prefix", "x-", "--rate", "0"
    ) as submit:
        assert submit.returncode == 1
        assert "2 x 201, 1 x 503" in submit.report()
        assert any("1 x 503: every slot is taken" in line for line in submit.stderr)
    assert len(balancer.keys["x-2"]) == 1


async def test_a_call_without_an_answer_is_asked_again_with_the_same_key(balancer):
    balancer.drops = {"x-1": 2}
    async with ended("submit", "--url", balancer.url, "--calls", "1", "--prefix", "x-", "--json") as submit:
        assert submit.returncode == 0, submit.report()
        assert json.loads(submit.stdout[-1])["repeated"] == 1
    assert len(balancer.keys["x-1"]) >= 3
    assert len(set(balancer.keys["x-1"])) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [("--end",), ("--hold", "0.1")])
async def test_calls_are_ended_when_that_was_asked_for(balancer, how):
    async with ended(
        "submit", "--url", balancer.url, "--calls", "4", "--rate", "0", "--json", *how
    ) as submit:
        assert submit.returncode == 0, submit.report()
        assert json.loads(submit.stdout[-1])["ended"] == 4
    assert sorted(balancer.ended) == sorted(balancer.keys)


@pytest.mark.parametrize("command", ["submit", "status"])
async def test_nobody_at_the_address_is_one_line_that_says_what_to_do(command):
    async with ended(command, "--url", "http://127.0.0.1:9") as program:
        assert program.returncode == 1
        assert len(program.stderr) == 1, program.report()
        assert "http://127.0.0.1:9" in program.stderr[0]
        assert "connection refused" in program.stderr[0]
        assert "mediaflow up" in program.stderr[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", "--metadata", "[1]"),
        ("submit", "--end", "--hold", "1"),
        ("submit", "--prefix", "a/b"),
        ("submit", "--calls", "none"),
        ("status", "--redis", "memory://", "--url", "http://127.0.0.1:9"),
        ("up", "--seconds", "3"),
        ("up", "--redis", "ftp://x"),
        ("up", "--lease-ttl", "1"),
        ("dance",),
    ],
)
def test_wrong_usage_is_one_line_and_exit_status_2(arguments, capsys):
    assert main(arguments) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1, told
    assert told[0].startswith("mediaflow")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("up", "Default: a private store."),
        ("up", "Default: 8080, of the balancer."),
        ("status", "asked instead."),
    ],
)
def test_help_tells_the_defaults_that_hold_for_the_command(command, told, capsys):
    assert main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert told in shown
    assert "redis://127.0.0.1:6379" not in shown


@pytest.mark.redis
@pytest.mark.slow
async def test_status_of_a_namespace_with_other_partitions_is_one_line_and_exit_status_2(redis_server):
    for partitions, status in (("32", 0), ("8", 2)):
        arguments = ("status", "--redis", redis_server.url, "--partitions", partitions)
        async with ended(*arguments) as program:
            assert program.returncode == status, program.report()
    assert len(program.stderr) == 1, program.report()
    assert "was first used with 32 partitions, not 8" in program.stderr[0]


async def test_status_fits_80_columns_and_counts_calls_of_all_pages(balancer):
    async with ended("status", "--url", balancer.url, COLUMNS="80") as status:
        assert status.returncode == 0, status.report()
        shown = "\n".join(status.stdout)
    assert all(len(line) <= 80 for line in shown.splitlines()), shown
    assert "2 instances, 14 of 200 slots used" in shown
    assert "6 calls: 3 active, 3 cancelled" in shown
    assert "1.2 s ago" in shown


@pytest.mark.slow
async def test_status_as_json_is_what_the_table_shows(balancer):
    async with ended("status", "--url", balancer.url, "--json") as status:
        found = json.loads(status.stdout[0])
    assert found["instances"][0]["instanceId"] == "worker-1"
    assert (found["calls"]["active"], found["calls"]["cancelled"], found["calls"]["pending"]) == (3, 3, 0)


def run_script(url: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MEDIAFLOW_")}
    return subprocess.run(
        [str(SCRIPT)],
        env=clean | {"URL": url} | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_shell_script_prints_a_line_for_each_call_and_fails_when_one_was_refused(balancer):
    fine = await asyncio.to_thread(run_script, balancer.url, CALLS="3", PREFIX="sh-", METADATA='{"room": 7}')
    assert fine.returncode == 0, fine.stderr
    assert fine.stdout.splitlines() == [f"sh-{i} 201 worker-1" for i in (1, 2, 3)]
    assert balancer.bodies["sh-1"] == {"room": 7}
    balancer.refuses = {"no-2"}
    refused = await asyncio.to_thread(run_script, balancer.url, CALLS="3", PREFIX="no-")
    assert refused.returncode == 1
    assert refused.stdout.splitlines()[1] == "no-2 503 -"
    assert "every slot is taken" in refused.stderr
