"""A run of the bench takes an hour: who stops it, or whom it fails, has what it measured until then."""

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest
from harness.measured import CONDITIONS, FakeStage, contest, measuring

from mediaflow.bench import bench as running
from mediaflow.bench.contest import Contestant
from mediaflow.bench.report import Report
from mediaflow.cli import bench as command
from mediaflow.cli.__main__ import main


@pytest.fixture
def run(monkeypatch):
    """Have contestants of ours measured against one other, in two rounds; return the exit status."""

    @asynccontextmanager
    async def stage(**_):
        yield FakeStage()

    monkeypatch.setattr(running, "stage", stage)
    monkeypatch.setattr(running, "find", lambda: None)
    monkeypatch.setattr(running, "observe", lambda *_, **__: CONDITIONS)
    monkeypatch.setattr(command, "_check", lambda *_, **__: None)

    def run(ours, *arguments):
        monkeypatch.setattr(command, "CONTESTS", (contest(ours, measuring("other", 3, 8)),))
        return main(["bench", "--rounds", "2", *map(str, arguments)])

    return run


def ours(then):
    """Return a contestant that does ``then`` when it is measured a second time."""
    figures = iter([{"p50": 1.0}])

    async def measure(_):
        found = next(figures, None)
        return await then() if found is None else found

    return Contestant("ours", measure)


async def stop():
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("way", [stop, interrupt])
def test_who_stops_a_run_is_shown_what_was_measured_and_finds_it_in_the_file(run, capsys, tmp_path, way):
    assert run(ours(way), "--json", tmp_path / "told.json") == 130
    told = capsys.readouterr()
    assert "who is first" in told.out
    assert told.err.strip() == "stopped before everything was measured"
    kept = msgspec.json.decode((tmp_path / "told.json").read_bytes(), type=Report)
    assert not kept.finished
    assert [len(line.pairs) for line in kept.lines] == [1]


def test_a_run_that_is_stopped_at_once_leaves_the_file_of_another_run_as_it_is(run, capsys, tmp_path):
    (tmp_path / "told.json").write_text("of yesterday")
    assert run(Contestant("ours", lambda _: stop()), "--json", tmp_path / "told.json") == 130
    assert (tmp_path / "told.json").read_text() == "of yesterday"
    assert capsys.readouterr().out == ""


def test_a_run_to_the_end_says_that_it_is_whole(run, capsys):
    assert run(measuring("ours", 1, 2), "--json", "-") == 0
    told = capsys.readouterr()
    assert msgspec.json.decode(told.out, type=Report).finished
    assert told.err == ""


def test_a_full_disk_is_said_in_a_line_and_what_was_measured_was_shown_before(run, capsys):
    assert run(measuring("ours", 1, 2), "--json", "/dev/full") == 2
    told = capsys.readouterr()
    assert "who is first" in told.out
    assert told.err == "mediaflow: cannot write what was measured: No space left on device\n"
