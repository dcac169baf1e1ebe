"""What a figure was measured on and with: a figure without it says nothing."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from mediaflow.store.embedded import ServerBinary

_ALWAYS = ("mediaflow", "redis", "hiredis", "aiohttp", "uvloop")


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, and what ran on it.

    Attributes:
        load_average: Of the minute before the run.
        packages: Versions of ours and of the peers'; None where one is not installed.
    """

    cpu: str
    cores: int
    load_average: float
    system: str
    python: str
    redis_server: str
    quick: bool
    rounds: int
    packages: dict[str, str | None]


def observe(server: ServerBinary, peers: Iterable[str], *, quick: bool, rounds: int) -> Conditions:
    """Return the conditions of a run that begins now."""
    return Conditions(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        load_average=round(os.getloadavg()[0], 2),
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        redis_server=f"{server.kind} {'.'.join(map(str, server.version))}",
        quick=quick,
        rounds=rounds,
        packages={name: _version(name) for name in (*_ALWAYS, *sorted(set(peers)))},
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
