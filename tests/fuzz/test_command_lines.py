"""Whatever is typed: exit status 0, or a line on stderr that says what was wrong; never a traceback."""

import random

import pytest
from click.testing import CliRunner
from harness.commands import COMMANDS

from mediaflow.bench.plan.programs import Unmeasurable
from mediaflow.cli import asking, bench, plan, status, up
from mediaflow.cli.__main__ import group
from mediaflow.concurrency import app as concurrency
from mediaflow.loadbalancer import app as loadbalancer
from mediaflow.settings import describe
from mediaflow.store import examination, open_store
from mediaflow.store.embedded import EmbeddedStoreError
from mediaflow.supervisor import caller
from mediaflow.watchdog import app as watchdog
from mediaflow.web import program
from mediaflow.worker import app as worker

VALUES = (
    "", " ", "0", "1", "3", "-1", "00", "007", "1_0", "٣", "²", "1e400", "nan", "inf", "-0.0", "0x10",
    "9" * 5000, "2.5", "true", "None", "\x7f", "\x1b[31m", "a\nb", "\udcff", "é", "😀", "x" * 100_000,
    "[" * 5000, '{"a":' * 5000, "[]", "{}", '["HS256"]', "HS256,RS256", '[{"policy": 1}]',
    '[{"policy": "user", "max": 1}]',
    "[\udcff", "/", "/dev/null", "/proc/self/mem", "/no/such", ".", "%s", "{0}", "..", "localhost:²",
    "h:99999999999999999999", "[::1]:80", "::", "0.0.0.0", "host name", "redis://", "redis://:²",
    "redis://h:notaport", "redis://h/²", "redis+cluster://h:²", "redis+cluster://h:" + "9" * 5000,
    "redis+sentinel://h:1/x/²", "redis://[", "redis://[::1", "redis://%zz@h", "redis://h?db=x",
    "redis://h?ssl_cert_reqs=x", "rediss://h?ssl_ca_certs=/", "redis://h?protocol=9",
    "redis://h?health_check_interval=x", "unix://", "unix:///\udcff", "memory://x", "redis://\udcff",
    "redis://h?socket_timeout=nan", "-----BEGIN PRIVATE KEY-----", "-----BEGIN \udcff", "queue", "reject",
    "wait", "debug", "handoff", "console", "http://[", "http://\udcff", "http://h:²", "ftp://h", "no.such:app",
    "os:path", ":", "a:", "json:loads", "harness.handlers:count", "\udcff:x", "asyncio:sleep", "--", "--help",
    "-h", "=",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def nothing_is_served(tmp_path_factory):
    """Each program goes as far as to open its store, or to measure, and ends then."""

    async def opens_its_store(_name, settings, _build):
        store = await open_store(settings)
        await store.close()

    async def ends_well(*_):
        return 0

    async def cannot_measure(*_, **__):
        raise EmbeddedStoreError("nothing is measured here")

    async def cannot_be_measured(_told):
        raise Unmeasurable("nothing is measured here")

    class Caller(caller.Caller):
        async def check(self):
            if self.url == asking.DEFAULT_URL:
                raise caller.Unreachable("whoever listens there has no part in this")
            await super().check()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(program, "_loop_factory", lambda: None)
        patched.setattr(program.logs, "configure", lambda *_: None)
        for one in (concurrency, loadbalancer, watchdog, worker):
            patched.setattr(one, "serve", opens_its_store)
        patched.setattr(up, "run", ends_well)
        patched.setattr(bench.Bench, "run", cannot_measure)
        patched.setattr(plan, "measure", cannot_be_measured)
        patched.chdir(tmp_path_factory.mktemp("written"))
        patched.setattr(status, "_DEADLINE_S", 0.05)
        patched.setattr(asking, "Caller", Caller)
        patched.setattr(examination, "_REACH_S", 0.05)
        yield


def line(rng: random.Random) -> list[str]:
    """Return a command line: a command, and flags of its own and of others with odd values."""
    name = rng.choice([*COMMANDS, *COMMANDS, "", "nothing", "--version"])
    command = COMMANDS.get(name, group)
    own = [option for parameter in command.params for option in parameter.opts]
    words = [name] if name else []
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        flag = rng.choice([*own, *own, *own, "--no-such", "--redis", "-x", "word"])
        match rng.randrange(6):
            case 0:
                words.append(flag)
            case 1:
                words.append(f"{flag}={rng.choice(VALUES)}")
            case _:
                words += [flag, rng.choice(VALUES)]
    return words


def outcome(words: list[str], environ: dict[str, str]) -> tuple[int, str]:
    runner = CliRunner(env={"MEDIAFLOW_CONFIG": "", **environ})
    with runner.isolation(env=runner.env) as (_out, err, _both):
        exit_status = program.main(group, words)
        return exit_status, err.getvalue().decode(errors="replace")


def check(words: list[str], environ: dict[str, str] | None = None) -> int:
    exit_status, written = outcome(words, environ or {})
    assert exit_status in (0, 1, 2), (words, exit_status)
    assert "Traceback" not in written, (words, written)
    if exit_status:
        told = written.splitlines()
        assert len(told) == 1, (words, written)
        assert told[0].startswith("mediaflow"), (words, written)
        assert len(told[0]) < 1200, (words, len(told[0]))
    return exit_status


@pytest.mark.parametrize("command", sorted(COMMANDS))
@pytest.mark.parametrize("value", ["", "²", "\udcff", "9" * 5000, "[" * 5000, "a\nb", "nan"])
def test_a_value_that_no_flag_expects_is_a_line(command, value):
    for parameter in COMMANDS[command].params:
        if "--help" not in parameter.opts:
            check([command, parameter.opts[0], value])


def test_lines_put_together_at_random_end_well_or_with_a_line():
    rng = random.Random(4)
    statuses = [check(line(rng)) for _ in range(200)]
    assert statuses.count(2) > 50
    assert statuses.count(0) > 10


@pytest.mark.slow
def test_many_lines_put_together_at_random_end_well_or_with_a_line():
    rng = random.Random(5)
    for _ in range(4000):
        check(line(rng))


def test_variables_of_the_environment_that_make_no_sense_are_a_line():
    rng = random.Random(6)
    for name in describe():
        for value in rng.sample([value for value in VALUES if "\0" not in value], 4):
            check(["loadbalancer"], {f"MEDIAFLOW_{name.upper()}": value})
            check(["status", "--url", "http://127.0.0.1:1"], {f"MEDIAFLOW_{name.upper()}": value})
