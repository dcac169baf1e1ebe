"""A process that takes part: it says lines of JSON on stdout, and may be told some on stdin.

Invariants: it has a process group of its own, which is killed when the context is left, and with us if we die;
whatever is waited for has a deadline; what it says on stderr is kept for the message if it fails.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from mediaflow.store.tether import tethered

DEADLINE_S = 30.0
_LINE_LIMIT = 1 << 24
_READY = re.compile(r"ready \S+ (http://\S+)")
_STOP_WITHIN_S = 5.0
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class ProgramError(Exception):
    """A process ended, or was silent, where something was expected of it."""


class Program:
    """A running process, from :func:`program`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._errors = errors

    async def heard(self, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """Return the next JSON object that it says; lines that are none are passed over.

        Raises:
            ProgramError: It ended, or said none by the deadline.
        """
        while True:
            line = await self._line(deadline_s)
            with contextlib.suppress(msgspec.MsgspecError):
                return msgspec.json.decode(line, type=dict[str, Any])

    async def says(self, key: str, deadline_s: float = DEADLINE_S) -> Any:
        """Return what it says under a key; objects without it are passed over.

        Raises:
            ProgramError: It ended, or said nothing by the deadline.
        """
        while key not in (said := await self.heard(deadline_s)):
            pass
        return said[key]

    async def ready(self, deadline_s: float = DEADLINE_S) -> str:
        """Return the address of its ready line.

        Raises:
            ProgramError: It ended, or said none by the deadline.
        """
        while True:
            line = await self._line(deadline_s)
            if found := _READY.fullmatch(line.decode("utf-8", "replace").strip()):
                return found[1]

    async def tell(self, what: object) -> None:
        """Write one line of JSON to its stdin."""
        if self._process.stdin is None:
            raise RuntimeError(f"{self.name} has no stdin")
        self._process.stdin.write(msgspec.json.encode(what) + b"\n")
        await self._process.stdin.drain()

    def kill(self) -> float:
        """End it as a crash does; return when, by the monotonic clock."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return time.monotonic()

    async def stop(self) -> None:
        """Have it end in order (SIGTERM), and kill it if it does not."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_WITHIN_S):
                    await self._process.wait()
        self.kill()
        await self._process.wait()

    def cpu_s(self) -> float:
        """Return the CPU time, user and system, that it has used."""
        return cpu_s(self.pid)

    async def _line(self, deadline_s: float) -> bytes:
        if self._process.stdout is None:
            raise RuntimeError(f"{self.name} has no stdout")
        try:
            async with asyncio.timeout(deadline_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise ProgramError(f"{self.name} said nothing for {deadline_s:g} s{self._last_words()}") from None
        if not line:
            status = await self._process.wait()
            raise ProgramError(f"{self.name} ended with status {status}{self._last_words()}")
        return line

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._errors.read_text("utf-8", "replace").splitlines()]
        return next((f": {line[:300]}" for line in reversed(lines) if line), "")


@asynccontextmanager
async def program(
    name: str, command: Sequence[str], scratch: Path, environment: Mapping[str, str]
) -> AsyncGenerator[Program]:
    """Run a process for as long as the context lasts."""
    errors = scratch / f"{name.replace('/', '-')}.{os.urandom(4).hex()}.stderr"
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *tethered(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=scratch,
            env=dict(environment),
            limit=_LINE_LIMIT,
            start_new_session=True,
        )
    started = Program(name, process, errors)
    try:
        yield started
    finally:
        started.kill()
        await process.wait()


def module(name: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of ours: ``mediaflow.worker``, ``mediaflow.bench.peers.bare``."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def cpu_s(pid: int) -> float:
    """Return the CPU time, user and system, that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
