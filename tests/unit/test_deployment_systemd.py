"""The units start our programs with what they accept, let them drain, give them few rights, and please systemd."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness.deployment import CONFIG, longest_stop_s, settings_of

UNITS = CONFIG / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
INSTALLED = "/opt/mediaflow/bin/mediaflow"
PORT = "8101"
MOST_EXPOSED = 20
"""In tenths, as systemd counts from 0 (nothing may be done) to 100."""


def lines(name: str) -> list[tuple[str, str]]:
    text = (UNITS / name).read_text()
    return [(key, value) for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)]


def value(name: str, wanted: str) -> str:
    (found,) = [value for key, value in lines(name) if key == wanted]
    return found


def environment(*, all_of_it: bool) -> dict[str, str]:
    """Return the variables of the file; with all of it, those too that are there to be uncommented."""
    start = "#?" if all_of_it else ""
    text = (UNITS / "mediaflow.env").read_text()
    return dict(re.findall(rf"^{start}([A-Z_]+)=(.*)$", text, re.MULTILINE))


@pytest.mark.parametrize("all_of_it", [False, True])
@pytest.mark.parametrize("name", SERVICES)
def test_each_unit_starts_with_settings_that_agree_and_has_the_time_to_drain(
    name: str, all_of_it: bool
) -> None:
    environ = environment(all_of_it=all_of_it)
    assert environ.pop("MEDIAFLOW_CONFIG") == "/etc/mediaflow/mediaflow.toml"
    line = value(name, "ExecStart").replace("%i", PORT).replace("%l", "media-7")
    program, *words = shlex.split(line.replace("$WORKER_FLAGS", environ.pop("WORKER_FLAGS", "")))
    assert program == INSTALLED
    settings = settings_of(words, environ, CONFIG / "mediaflow.toml")
    drains = words[0] == "worker"
    waits_s = longest_stop_s(settings) - (0.0 if drains else settings.drain_timeout)
    assert int(value(name, "TimeoutStopSec")) > waits_s
    if drains:
        assert (settings.port, settings.instance_id) == (int(PORT), f"media-7-{PORT}")


def test_there_is_a_unit_for_each_program() -> None:
    programs = [value(name, "ExecStart").split()[1] for name in SERVICES]
    assert sorted(programs) == ["concurrency", "loadbalancer", "watchdog", "worker"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_mistake_is_not_started_again_and_a_crash_is(name: str) -> None:
    assert (value(name, "Restart"), value(name, "RestartPreventExitStatus")) == ("on-failure", "2")
    assert value(name, "StartLimitIntervalSec") == "0"


def test_what_a_handler_has_started_does_not_hear_of_the_end_before_its_program_has_drained() -> None:
    assert value("mediaflow-worker@.service", "KillMode") == "mixed"


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; where there is none, skip, and fail in CI."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("needs systemd-analyze, and in CI it has to be there")
        pytest.skip("needs systemd-analyze")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A unit as it would be installed, but for its program: that is ours of this environment."""
    for path in UNITS.iterdir():
        name = path.name.replace("@.", f"@{PORT}.")
        (tmp_path / name).write_text(path.read_text().replace(INSTALLED, sys.executable))
    return str(tmp_path / request.param.replace("@.", f"@{PORT}."))


@pytest.mark.parametrize("unit", [*SERVICES, "mediaflow.target"], indirect=True)
def test_systemd_understands_each_unit(unit: str) -> None:
    verified = analyze("verify", "--man=no", unit)
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("unit", SERVICES, indirect=True)
def test_no_unit_has_more_rights_than_it_needs(unit: str) -> None:
    looked_at = analyze("security", "--no-pager", "--offline=yes", f"--threshold={MOST_EXPOSED}", unit)
    assert looked_at.returncode == 0, looked_at.stdout
