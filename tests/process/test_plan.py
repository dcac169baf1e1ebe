"""`mediaflow plan`: one line for what cannot be, a report that fits a terminal, and costs that are measured here."""

import json

import pytest
from conftest import needs_redis

from mediaflow.bench.plan import costs as unit_costs
from mediaflow.bench.plan.costs import Costs
from mediaflow.cli.__main__ import main

COSTS = Costs(
    machine="made up",
    renewals_gather_in=40,
    **{name: 10.0 for name in Costs.__struct_fields__ if name not in ("machine", "renewals_gather_in")},
)


@pytest.fixture
def costs(tmp_path):
    path = tmp_path / "costs.json"
    unit_costs.write(path, COSTS)
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to plan for"),
        (["--sessions", "many"], "'many' is not a valid integer"),
        (["--sessions", "0"], "nothing to plan for"),
        (["--sessions", "-5"], "--sessions = -5"),
        (["--sessions", "5", "--lease-ttl", "1"], "--lease-ttl = 1: use 3 to"),
        (["--sessions", "5", "--utilisation", "2"], "--utilisation = 2"),
        (["--sessions", "5", "--shard-memory", "nan"], "--shard-memory = nan"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line_that_names_the_flag(costs, capsys, arguments, said):
    assert main(["plan", "--costs", costs, *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", [None, "", "{}"])
def test_costs_that_cannot_be_read_are_one_line(tmp_path, capsys, content):
    path = tmp_path / "costs.json"
    if content is not None:
        path.write_text(content)
    assert main(["plan", "--sessions", "5", "--costs", str(path)]) == 2
    err = capsys.readouterr().err
    assert "costs.json" in err
    assert err.count("\n") == 1


def test_without_a_redis_server_one_line_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr("mediaflow.bench.plan.programs.find_server", lambda: None)
    assert main(["plan", "--sessions", "5"]) == 2
    err = capsys.readouterr().err
    assert "--costs FILE" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("columns", [80, 120])
def test_the_report_fits_the_terminal(costs, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["plan", "--sessions", "10_000_000", "--streams", "50_000_000", "--costs", costs]) in (0, 1)
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= columns
    for name in ("workers", "balancers", "watchdogs", "Redis shards for calls", "Redis shards for streams"):
        assert name in out


def test_json_has_each_figure_with_its_derivation_and_whether_all_holds(costs, capsys):
    status = main(["plan", "--sessions", "1_000", "--costs", costs, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["number"] for one in found["figures"]}["workers"] == 10
    assert all(one["because"] for one in found["figures"])
    assert found["limits"][0]["share"] == max(one["share"] for one in found["limits"])
    assert found["holds"] is (status == 0)
    assert found["demand"]["sessions"] == 1000


def test_the_exit_status_tells_a_fleet_that_breaks(costs, capsys):
    assert main(["plan", "--sessions", "10_000_000", "--costs", costs, "--slots", "10"]) == 1
    assert "This breaks: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.redis
def test_costs_are_measured_here_and_saved(tmp_path, capsys):
    needs_redis()
    path = tmp_path / "costs.json"
    main(["plan", "--sessions", "1000", "--streams", "1000", "--save-costs", str(path), "--json"])
    measured = unit_costs.read(path)
    assert json.loads(capsys.readouterr().out)["costs"]["machine"] == measured.machine
    for name in Costs.__struct_fields__:
        if name.endswith("_us") and "_script_" not in name and "_renew_" not in name:
            assert getattr(measured, name) > 0, name
    for program in ("redis", "worker"):
        assert getattr(measured, f"{program}_script_us") + getattr(measured, f"{program}_renew_us") > 0
    assert measured.redis_session_bytes > 100
