"""`mediaflow bench`: that it runs through, and says what is missing. How fast anything is decides nothing here."""

import pytest
from conftest import needs_redis
from harness.processes import Program

from mediaflow.bench.contests import CONTESTS
from mediaflow.bench.plot import plot
from mediaflow.bench.report import Report
from mediaflow.cli.__main__ import main

QUICK_WITHIN_S = 180.0
"""A deadline for being stuck: it takes a minute on two cores of their own, and three times that on busy ones."""


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_quick_run_of_all_contests_gives_figures_of_ours_in_each(tmp_path):
    import msgspec

    program = Program("mediaflow", "bench", "--quick", "--json", "-")
    try:
        assert await program.ended(within_s=QUICK_WITHIN_S) == 0, program.report()
        told = msgspec.json.decode(program.stdout[0], type=Report)
    finally:
        program.close()
    ours = {line.contest for line in told.lines} | {one.contest for one in told.absences if one.ours}
    assert ours == {contest.name for contest in CONTESTS}, told.absences
    assert told.conditions.quick
    assert told.conditions.redis_server.startswith(("redis-server", "valkey-server"))
    pytest.importorskip("matplotlib")
    drawn = plot(told, tmp_path / "plots")
    assert len(drawn) >= len({line.contest for line in told.lines})
    assert all(path.read_bytes().startswith(b"<?xml") for path in drawn)


def test_without_a_redis_server_it_says_so_in_a_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["bench", "--quick", "--only", "dispatch"]) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert "no redis-server" in said


@pytest.mark.redis
def test_without_the_extra_it_says_how_to_install_it(monkeypatch, capsys):
    needs_redis()
    monkeypatch.setattr("mediaflow.bench.bench.is_installed", lambda _: False)
    assert main(["bench", "--quick", "--only", "jobs"]) == 2
    assert "pip install 'mediaflow[bench]'" in capsys.readouterr().err


def test_the_contests_can_be_listed(capsys):
    assert main(["bench", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        contest.name for contest in CONTESTS
    ]
