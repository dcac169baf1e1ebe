"""Secrets stay where they were put: not in logs, answers, metrics, documents, help, or another process's sight."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness.commands import COMMANDS
from harness.ports import free_port
from harness.processes import Program
from harness.waiting import eventually

from mediaflow.cli.__main__ import group
from mediaflow.limiter.signing import new_key

pytestmark = pytest.mark.redis

TOKEN = "sesame-of-the-api"
PASSWORD = "sesame-of-redis"
JWT_SECRET = "sesame-of-the-tokens-" + "x" * 32
PRIVATE_KEY = new_key().decode().splitlines()[1]
SECRETS = (TOKEN, PASSWORD, JWT_SECRET, PRIVATE_KEY)

PATHS = {
    "worker": (
        "/calls",
        "/instances",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/readyz",
        "/nothing",
        "/calls/%00",
    ),
    "loadbalancer": ("/calls", "/instances", "/metrics", "/openapi.json", "/docs", "/readyz", "/nothing"),
    "watchdog": ("/metrics", "/openapi.json", "/docs", "/readyz", "/nothing"),
    "concurrency": (
        "/v1/users/a/streams",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/readyz",
        "/.well-known/jwks.json",
    ),
}


def environ(port: int) -> dict[str, str]:
    return {
        "MEDIAFLOW_REDIS_URL": f"redis://mediaflow:{PASSWORD}@127.0.0.1:{port}/0",
        "MEDIAFLOW_API_TOKEN": TOKEN,
        "MEDIAFLOW_JWT_ALGORITHMS": "HS256",
        "MEDIAFLOW_JWT_KEY": JWT_SECRET,
        "MEDIAFLOW_TOKEN_KEY": f"-----BEGIN PRIVATE KEY-----\n{PRIVATE_KEY}\n-----END PRIVATE KEY-----\n",
        "MEDIAFLOW_LOG_LEVEL": "debug",
    }


def assert_kept(*texts: str) -> None:
    for text in texts:
        for secret in SECRETS:
            assert secret not in text, text[:2000]


async def look_everywhere(program: Program, name: str, http) -> None:
    """Ask for all that a program shows, with and without the token, and read what it logged."""
    for path in PATHS[name]:
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}, {"Authorization": f"Bearer {JWT_SECRET}"}):
            async with http.get(program.url + path, headers=headers) as answer:
                assert_kept(str(answer.headers), await answer.text())
    async with http.post(program.url + "/calls/a", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        assert_kept(await answer.text())
    assert_kept(Path(f"/proc/{program.pid}/cmdline").read_bytes().decode(), program.report())


async def check(redis_server, http, *names: str) -> None:
    programs = [
        Program(f"mediaflow.{name}", "--port", "0", environ=environ(redis_server.port)) for name in names
    ]
    try:
        for program, name in zip(programs, names, strict=True):
            await program.ready(40)
            await look_everywhere(program, name, http)
        for program in programs:
            program.terminate()
        for program in programs:
            assert await program.ended(30) == 0, program.report()
            assert_kept(program.report())
            assert "Traceback" not in program.report()
    finally:
        for program in programs:
            program.close()


@pytest.fixture
def guarded(redis_server):
    """A Redis that knows the password."""
    redis_server.command("ACL", "SETUSER", "mediaflow", "reset", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    yield redis_server
    redis_server.command("ACL", "DELUSER", "mediaflow")


@pytest.mark.slow
async def test_nothing_that_a_program_says_holds_a_secret_at_log_level_debug(guarded, http):
    await check(guarded, http, *PATHS)


@pytest.mark.slow
async def test_nor_while_redis_refuses_the_password(redis_server, http):
    await check(redis_server, http, *PATHS)


@pytest.mark.slow
async def test_children_of_up_do_not_show_secrets_on_their_command_lines(guarded):
    variables = environ(guarded.port)
    arguments = ("up", "--workers", "1", "--port", str(free_port()))
    up = Program("mediaflow.cli", *arguments, environ=variables)
    try:

        def programs() -> list[str]:
            found = [path.read_bytes().decode(errors="replace") for path in command_lines_below(up.pid)]
            return [line for line in found if "mediaflow" in line]

        lines = await eventually(programs, 40, until=lambda found: len(found) >= 5)
        await asyncio.sleep(1)
        assert_kept(*lines, *programs(), up.report())
    finally:
        up.interrupt()
        await up.ended(30)
    assert_kept(up.report())


def command_lines_below(pid: int) -> list[Path]:
    found = [Path(f"/proc/{pid}/cmdline")]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += command_lines_below(int(child))
    return found


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_shows_no_secret_of_the_environment(command):
    shown = CliRunner(env=environ(6379)).invoke(group, [command, "--help"]).output
    assert "Usage" in shown
    assert_kept(shown)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["token_key", "jwt_key"])
async def test_a_key_that_cannot_be_read_is_not_shown(name):
    # Its frame was forgotten, so it looks like the name of a file.
    variables = {**environ(1), f"MEDIAFLOW_{name.upper()}": PRIVATE_KEY, "MEDIAFLOW_JWT_ALGORITHMS": "EdDSA"}
    program = Program("mediaflow.concurrency", "--port", "0", environ=variables)
    try:
        assert await program.ended(40) == 2, program.report()
        assert_kept(program.report())
        assert len(program.stderr) == 1, program.report()
        assert name in program.stderr[0]
    finally:
        program.close()
