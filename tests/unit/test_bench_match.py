"""How contestants are measured: in turn, each from an empty Redis; who fails is told, and stops nobody else."""

import asyncio
import io
import re

import msgspec
import pytest
from harness.measured import CONDITIONS, FakeStage, contest, measuring
from rich.console import Console

from mediaflow.bench import match
from mediaflow.bench.contest import Bound, Contestant
from mediaflow.bench.match import play, turns
from mediaflow.bench.plot import plot
from mediaflow.bench.program import ProgramError
from mediaflow.bench.report import Report, conditions_line, drawn, figure, report
from mediaflow.bench.stage import Unfit


async def played(made, stage, rounds):
    duels = []
    taken = [turn async for turn in play(made, stage, rounds, duels)]
    assert len(taken) <= turns(made, rounds, quick=stage.quick)
    return duels


async def test_a_peer_that_hangs_costs_a_quick_run_no_more_than_its_deadline(monkeypatch):
    async def hang(stage):
        stage.log.append("hangs")
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(match, "QUICK_DEADLINE_S", 0.01)
    (duel,) = await played(
        contest(measuring("ours", 1.0), Contestant("theirs", hang)), FakeStage(quick=True), 1
    )
    assert (duel.failure, duel.alone) == ("no figure within 0.01 s", {"p50": 1.0})


async def test_ours_and_theirs_are_measured_in_turn_and_who_is_first_alternates():
    stage = FakeStage()
    [duel] = await played(contest(measuring("ours", 1, 2), measuring("other", 3, 8)), stage, 2)
    assert stage.log == ["clear", "ours", "clear", "other", "clear", "other", "clear", "ours"]
    assert [(pair.ours, pair.other) for pair in duel.pairs["p50"]] == [(1, 3), (2, 8)]


async def test_a_quick_run_is_beside_the_first_other_that_can_take_part():
    stage = FakeStage(quick=True)
    made = contest(
        measuring("ours", 1), measuring("a", is_slow=True), measuring("b", 3), measuring("c", 2), sizes=(1, 2)
    )
    a, b, c = await played(made, stage, 1)
    assert stage.log == ["clear", "ours", "clear", "b"]
    assert (b.pairs["p50"][0].ours, b.pairs["p50"][0].other) == (1, 3)
    assert "too long for a quick run" in a.failure
    assert "left out" in c.failure


async def test_who_fails_is_told_with_the_reason_and_is_not_asked_again():
    stage = FakeStage()
    dead = measuring("dead", ProgramError("dead ended with status 1: no such module"))
    odd = measuring("odd", 5, Unfit("lost 3 of 100"))
    made = contest(measuring("ours", *[1] * 9), dead, measuring("gone", packages=("no-such-package",)), odd)
    duels = await played(made, stage, 3)
    told = report(CONDITIONS, [(made, duels)])
    assert {absence.other_name: absence.reason for absence in told.absences} == {
        "dead": "dead ended with status 1: no such module",
        "gone": "not installed: no-such-package",
        "odd": "lost 3 of 100",
    }
    assert [(line.other_name, len(line.pairs)) for line in told.lines] == [("odd", 1)]
    assert stage.log.count("dead") == 1


async def test_a_contest_of_several_sizes_is_asked_at_each():
    duels = await played(
        contest(measuring("ours", 1, 2), measuring("other", 3, 4), sizes=(10, 20)), FakeStage(), 1
    )
    assert [(duel.size, duel.pairs["p50"][0].other) for duel in duels] == [(10, 3), (20, 4)]


async def test_nothing_is_measured_beside_who_is_not_asked_at_that_size():
    stage = FakeStage()
    few = measuring("few", 3, bound=Bound(10, "it loses them"))
    made = contest(measuring("ours", 1, 1, 1), few, measuring("many", 2, 2), sizes=(10, 20))
    duels = await played(made, stage, 1)
    assert [(duel.size, duel.other, duel.failure) for duel in duels] == [
        (10, "few", ""),
        (10, "many", ""),
        (20, "few", "not asked for more than 10: it loses them"),
        (20, "many", ""),
    ]
    assert [name for name in stage.log if name != "clear"] == ["ours", "few", "ours", "many", "ours", "many"]
    assert turns(made, 2, quick=False) == 12
    assert turns(made, 1, quick=True) == 2


async def test_the_report_shows_medians_the_ratio_with_its_spread_and_who_is_missing():
    other, lost = measuring("their queue", 4, 9), measuring("their lock", Unfit("collapsed"))
    made = contest(measuring("ours", 1, 2, 3), other, lost)
    told = report(CONDITIONS, [(made, await played(made, FakeStage(), 2))])
    screen = io.StringIO()
    console = Console(file=screen, width=100)
    for part in drawn(told, {"race": "who is first"}):
        console.print(part)
    said = screen.getvalue()
    assert "race: who is first" in said
    assert "× (3–4)" in said
    assert "their lock: collapsed\nours in that round: p50 2 ms" in said
    assert "arq missing" in conditions_line(CONDITIONS)


async def test_a_figure_that_is_nothing_leaves_a_report_that_can_be_read_back_and_drawn(tmp_path):
    made = contest(measuring("ours", 0.0), measuring("theirs", 4096.0))
    told = report(CONDITIONS, [(made, await played(made, FakeStage(), 1))])
    assert msgspec.json.decode(msgspec.json.encode(told), type=Report) == told
    screen = io.StringIO()
    for part in drawn(told, {"race": "who is first"}):
        Console(file=screen, width=100).print(part)
    assert re.search(r"0 ms +4,096 ms +– +theirs", screen.getvalue())
    pytest.importorskip("matplotlib")
    assert plot(told, tmp_path)


def test_figures_have_three_digits():
    assert figure(0.6234, "ms") == "0.623 ms"
    assert figure(15_600.4, "/s") == "15,600 /s"
