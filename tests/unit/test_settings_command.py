"""`mediaflow settings` tells which value holds and where it comes from, and no secret."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mediaflow.cli.__main__ import main
from mediaflow.cli.settings import command
from mediaflow.settings import SECRETS, describe


def run(*arguments: str, **environ: str) -> str:
    result = CliRunner().invoke(command, arguments, env=environ)
    assert result.exit_code == 0, result.output
    return result.output


def as_json(*arguments: str, **environ: str) -> dict[str, Any]:
    return {one["name"]: one for one in json.loads(run("--json", *arguments, **environ))}


def test_every_setting_is_shown_with_its_value_and_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("slots = 7\nlease_ttl = 5\n")
    found = as_json("--config", str(path), MEDIAFLOW_SLOTS="8")
    assert list(found) == list(describe())
    assert (found["slots"]["value"], found["slots"]["from"]) == (8, "MEDIAFLOW_SLOTS")
    assert (found["lease_ttl"]["value"], found["lease_ttl"]["from"]) == (5.0, f"lease_ttl in {path}")
    assert (found["retention"]["value"], found["retention"]["from"]) == (3600.0, "")
    assert found["retention"]["variable"] == "MEDIAFLOW_RETENTION"


def test_people_see_the_same_as_programs() -> None:
    lines = run(MEDIAFLOW_DRAIN="wait").splitlines()
    assert [line.split()[0] for line in lines] == ["setting", *describe()]
    (drain,) = (line.split() for line in lines if line.startswith("drain "))
    assert drain == ["drain", "wait", "MEDIAFLOW_DRAIN"]


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_no_secret_is_shown(arguments: tuple[str, ...]) -> None:
    environ = {
        "MEDIAFLOW_API_TOKEN": "hush-1",
        "MEDIAFLOW_REDIS_URL": "redis://me:hush-2@10.0.0.5/0",
        "MEDIAFLOW_TOKEN_KEY": "hush-3",
        "MEDIAFLOW_JWT_ALGORITHMS": "HS256",
        "MEDIAFLOW_JWT_KEY": "hush-4",
    }
    assert {name.removeprefix("MEDIAFLOW_").lower() for name in environ} >= SECRETS
    output = run(*arguments, **environ)
    assert "hush" not in output
    assert "10.0.0.5" in output


def test_a_wrong_setting_is_one_line_and_exit_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIAFLOW_SLOTS", "many")
    assert main(["settings"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
