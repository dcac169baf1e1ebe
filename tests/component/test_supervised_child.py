"""A program under the supervisor is started again when it dies, heard, and stopped in time."""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from harness.waiting import eventually

from mediaflow.processes import child as supervised
from mediaflow.processes import restarts
from mediaflow.processes.child import Child
from mediaflow.settings import Settings
from mediaflow.supervisor import up
from mediaflow.supervisor.screen import Screen

READY = "print('ready worker http://127.0.0.1:1', flush=True); "
SERVE = READY + "import time; time.sleep(60)"


class Witness:
    def __init__(self) -> None:
        self.urls: list[str] = []
        self.ends: list[supervised.End] = []
        self.lines: list[str] = []

    def on_ready(self, child):
        self.urls.append(child.url)

    def on_end(self, child, end):
        del child
        self.ends.append(end)

    def on_line(self, child, line):
        del child
        self.lines.append(line)


@asynccontextmanager
async def kept(code: str, witness: Witness, *, steadfast: bool = False):
    command = [sys.executable, "-c", code]
    child = Child("worker-1", command, witness, environment=dict(os.environ), steadfast=steadfast)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(child.keep())
        yield child
        await child.stop(5)
        await keeping


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(restarts, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(restarts, "LONGEST_PAUSE_S", 0.02)


@pytest.mark.usefixtures("hasty")
async def test_a_program_that_is_killed_serves_again():
    witness = Witness()
    async with kept(SERVE, witness) as child:
        assert await child.settled()
        first = child.pid
        assert child.kill()
        await eventually(lambda: len(witness.urls) == 2, 10)
        assert child.pid not in {0, first}
        assert [(end.status, end.was_ready) for end in witness.ends] == [(-signal.SIGKILL, True)]
    assert child.pid == 0
    assert len(witness.ends) == 1, "an end that was asked for is no news"


@pytest.mark.usefixtures("hasty")
async def test_a_program_that_cannot_start_is_given_up_with_its_last_words():
    witness = Witness()
    async with kept("raise SystemExit('no luck')", witness) as child:
        async with asyncio.timeout(20):
            assert not await child.settled()
    assert len(witness.ends) == restarts.MOST_FAILURES
    assert witness.ends[-1].pause_s is None
    assert witness.ends[-1].last_words == "no luck"


async def test_a_program_that_was_called_wrongly_is_not_tried_again():
    witness = Witness()
    async with kept("raise SystemExit(2)", witness) as child:
        assert not await child.settled()
    assert [end.pause_s for end in witness.ends] == [None]


async def test_a_program_that_does_not_end_is_killed_at_its_deadline():
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVE
    witness = Witness()
    async with kept(deaf, witness) as child:
        await child.settled()
        assert not await child.stop(0.2)
        assert child.pid == 0


@pytest.mark.usefixtures("hasty")
async def test_a_program_that_never_serves_is_killed_and_tried_again(monkeypatch):
    monkeypatch.setattr(supervised, "READY_DEADLINE_S", 0.2)
    witness = Witness()
    async with kept("import time; time.sleep(60)", witness):
        await eventually(lambda: len(witness.ends) >= 2, 10)
    assert "not ready within 0.2 s" in witness.lines[0]


async def test_warnings_are_shown_once_and_a_flood_of_output_does_not_block():
    warn = '{"event": "not ready", "level": "warning", "problem": "Redis is away"}'
    chat = '{"event": "renewed", "level": "info"}'
    code = (
        f"import sys; print({warn!r}, file=sys.stderr); print({warn!r}, file=sys.stderr); "
        f"print({chat!r}, file=sys.stderr); print('x' * 3_000_000, file=sys.stderr); " + SERVE
    )
    witness = Witness()
    async with kept(code, witness) as child:
        assert await child.settled()
        await eventually(lambda: witness.lines, 10)
    assert witness.lines[0] == "warning: not ready (problem=Redis is away)"
    assert not [line for line in witness.lines[1:] if "not ready" in line or "renewed" in line]


async def test_without_any_server_everything_runs_in_one_process(monkeypatch, capsys):
    monkeypatch.setattr(up, "find_server", lambda: None)
    options = up.UpOptions(settings=Settings(), own_redis=False, workers=1)
    async with AsyncExitStack() as stack:
        assert await up._choose_store(options, Screen(), stack) == (None, "memory://")
    assert "inside this process" in capsys.readouterr().out


@pytest.mark.usefixtures("hasty")
@pytest.mark.slow
async def test_a_steadfast_child_that_has_served_is_never_given_up():
    witness = Witness()
    async with kept(READY + "raise SystemExit(7)", witness, steadfast=True):
        await eventually(lambda: len(witness.urls) > restarts.MOST_FAILURES, 30)
    assert {end.status for end in witness.ends} == {7}


async def test_a_steadfast_child_that_ends_before_it_serves_is_given_up_at_once():
    witness = Witness()
    async with kept("raise SystemExit(1)", witness, steadfast=True) as child:
        assert not await child.settled()
    assert [end.pause_s for end in witness.ends] == [None]


async def test_a_steadfast_child_that_ends_well_is_not_started_again():
    witness = Witness()
    async with kept(READY, witness, steadfast=True) as child:
        await eventually(lambda: witness.ends, 10)
        assert not child.hopeless
    assert [(end.status, end.pause_s) for end in witness.ends] == [(0, None)]


async def test_what_a_dead_program_started_does_not_keep_it_from_being_started_again(monkeypatch, tmp_path):
    monkeypatch.setattr(supervised, "_LAST_WORDS_S", 0.05)
    note = tmp_path / "orphan"
    orphan = (
        f"import os, subprocess; open({str(note)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid)); "
        f"{READY}os._exit(1)"
    )
    witness = Witness()
    async with kept(orphan, witness, steadfast=True):
        await eventually(lambda: witness.ends, 10)
        os.kill(int(note.read_text()), signal.SIGKILL)
