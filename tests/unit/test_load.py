"""When an instance is too busy: a gate that does not flap, and a load of the processors that means something."""

import math
from pathlib import Path
from typing import Any

import pytest

from mediaflow.core import load as core
from mediaflow.runtime.cpu import CpuLoad

THRESHOLD = 0.9


@pytest.mark.parametrize(
    ("measured", "believed"),
    [
        (0, 0.0),
        (0.5, 0.5),
        (1, 1.0),
        (1.7, 1.0),
        (math.inf, 1.0),
        (-0.1, None),
        (math.nan, None),
        (None, None),
        (True, None),
        ("0.5", None),
    ],
)
def test_only_a_number_is_a_load_and_more_than_full_is_full(measured: Any, believed: float | None):
    assert core.believed(measured) == believed


@pytest.mark.parametrize(
    ("loads", "closed"),
    [
        ([0.5, 0.89, 0.9], [False, False, False]),
        ([0.91, 0.89, 0.91, 0.85], [True, True, True, True]),
        ([0.95, 0.81, 0.82, 0.9], [True, False, False, False]),
        ([0.95, None, 0.89], [True, False, False]),
        ([None, 0.5], [False, False]),
    ],
)
def test_an_instance_does_not_open_and_close_with_every_tremble_of_its_load(
    loads: list[float | None], closed: list[bool]
):
    gate = core.Gate()
    seen: list[bool] = []
    for load in loads:
        gate = core.step(gate, load, THRESHOLD)
        assert gate.load == load
        seen.append(gate.closed)
    assert seen == closed


def test_a_threshold_of_one_never_closes():
    assert not core.step(core.Gate(), core.believed(5.0), 1.0).closed


class HandClock:
    now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return 0


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path


def spent(host: Path, *, busy: int, idle: int) -> None:
    (host / "proc/stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n")


def used(host: Path, seconds: float, limit: str = "200000 100000") -> None:
    (host / "sys/fs/cgroup/cpu.max").write_text(limit + "\n")
    (host / "sys/fs/cgroup/cpu.stat").write_text(f"usage_usec {seconds * 1e6:.0f}\nuser_usec 1\n")


def test_the_load_of_a_host_is_a_mean_of_the_last_seconds(host: Path):
    spent(host, busy=1000, idle=5000)
    load = CpuLoad(root=host)
    assert load() == 0
    for second in range(1, 6):
        spent(host, busy=1000 + 50 * second, idle=5000 + 50 * second)
        assert load() == pytest.approx(0.5)
    seen: list[float] = []
    for second in range(6, 12):
        spent(host, busy=1250 + 100 * (second - 5), idle=5250)
        seen.append(load())
    assert seen[0] < 0.7, "one busy second does not make the host busy"
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_in_a_container_with_a_limit_the_load_is_what_it_used_of_its_limit(host: Path):
    spent(host, busy=0, idle=1000)
    clock = HandClock()
    used(host, 10.0)
    load = CpuLoad(root=host, clock=clock)
    clock.now_s += 1
    used(host, 11.5)
    assert load() == pytest.approx(0.75), "1.5 s of the 2 s that two processors have in a second"


def test_a_container_without_a_limit_is_as_busy_as_its_host(host: Path):
    spent(host, busy=0, idle=1000)
    used(host, 10.0, "max 100000")
    load = CpuLoad(root=host)
    spent(host, busy=75, idle=1025)
    assert load() == pytest.approx(0.75)


def test_without_either_the_load_average_stands_in(host: Path):
    assert 0 <= CpuLoad(root=host / "nothing")() <= 1
