"""One program as a child process that is kept alive: started, waited for, heard, started again, stopped.

Invariants: a child has a process group of its own, so that Ctrl-C reaches the supervisor alone, which
stops things in order; it is killed when the supervisor dies; its pipes are always read.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from mediaflow.processes.restarts import LONGEST_PAUSE_S, Restarts
from mediaflow.store.tether import tethered

READY_DEADLINE_S = 30.0
_READY = re.compile(r"ready \S+ (http://\S+)")
_LOUD = frozenset({"warning", "error", "critical"})
_REPEATED_AFTER_S = 30.0
_LINE_LIMIT = 1 << 20
_LAST_WORDS_S = 1.0
_LOOK_INTERVAL_S = 0.25
TOLD_BETTER = frozenset({"swept", "struck off", "leases expired"})
"""What the watchdog says of a death, and the supervisor too, with what became of the calls."""
_DULL = frozenset({"event", "level", "timestamp", "logger", "exception", "instance_id"})


class End(NamedTuple):
    """How a process ended; ``pause_s`` is None if it is not started again."""

    status: int
    at_ms: int
    was_ready: bool
    pause_s: float | None
    last_words: str


class Watcher(Protocol):
    """Who is told of what happens to a child."""

    def on_ready(self, child: "Child") -> None:
        """It serves; ``child.url`` says where."""
        ...

    def on_end(self, child: "Child", end: End) -> None:
        """Its process ended, though nobody had asked it to stop."""
        ...

    def on_line(self, child: "Child", line: str) -> None:
        """It said something that people should see."""
        ...


class Child:
    """A program that is kept alive by :meth:`keep` until :meth:`stop`.

    Attributes:
        name: For people and, of workers, the instance id: ``worker-1``.
        url: Where it serves; empty while it does not.
        hopeless: It ended too often in a row and was given up.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        watcher: Watcher,
        *,
        environment: Mapping[str, str],
        talkative: bool = False,
        steadfast: bool = False,
        ready_within_s: float | None = None,
    ) -> None:
        """Prepare a child; nothing runs yet.

        Args:
            name: For people and, of workers, the instance id.
            command: What is run.
            watcher: Is told what happens.
            environment: All of the process's environment.
            talkative: Everything that it says is for people.
            steadfast: One that has served is started again however often it dies, but not when it ended well
                by itself, and one that ends before it ever served is given up. Its stderr is ours.
            ready_within_s: It is killed when it does not serve by then; None for :data:`READY_DEADLINE_S`.
        """
        self.name = name
        self.url = ""
        self.hopeless = False
        self._command = tuple(command)
        self._watcher = watcher
        self._environment = dict(environment)
        self._talkative = talkative
        self._steadfast = steadfast
        self._ready_within_s = ready_within_s
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._settled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._killed_at_ms = 0
        self._last_words = ""
        self._heard: dict[str, float] = {}

    @property
    def ready(self) -> bool:
        """It serves."""
        return self._ready.is_set()

    @property
    def pid(self) -> int:
        """Its process id; 0 while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def settled(self) -> bool:
        """Return when it serves (True) or was given up (False) for the first time."""
        await self._settled.wait()
        return not self.hopeless

    async def keep(self) -> None:
        """Run it, again and again, until it is stopped or hopeless."""
        restarts = Restarts()
        while not self._stopping.is_set():
            began = time.monotonic()
            status, was_ready = await self._run_once()
            if self._stopping.is_set():
                return
            restarts = restarts.ended(time.monotonic() - began)
            at_ms = self._killed_at_ms or time.time_ns() // 1_000_000
            self._killed_at_ms = 0
            pause_s = self._pause_s(status, restarts, was_ready=was_ready)
            self.hopeless = pause_s is None and not (status == 0 and was_ready)
            self._watcher.on_end(self, End(status, at_ms, was_ready, pause_s, self._last_words))
            if pause_s is None:
                self._settled.set()
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    async def stop(self, deadline_s: float) -> bool:
        """Ask it to end, and kill it when it has not by the deadline; True if it ended by itself, well."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return True
        # One that is still starting has no handler yet, and nothing to drain.
        fine = {0} if self.ready else {0, -signal.SIGTERM}
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(deadline_s):
                return await _ended(process) in fine
        except TimeoutError:
            self.kill()
            await _ended(process)
            return False

    def kill(self) -> bool:
        """End its process with SIGKILL; True if there was one."""
        if not self.pid:
            return False
        self._killed_at_ms = time.time_ns() // 1_000_000
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return True

    def _pause_s(self, status: int, restarts: Restarts, *, was_ready: bool) -> float | None:
        """Return how long to wait before the next start, None if there is none."""
        if self._steadfast:
            given_up = not self._settled.is_set() or (status == 0 and was_ready)
            return None if given_up else restarts.pause_s or LONGEST_PAUSE_S
        # Status 2 before it served: it was called wrongly, which another start does not change.
        return None if status == 2 and not was_ready else restarts.pause_s

    async def _run_once(self) -> tuple[int, bool]:
        """Return the exit status (negative: a signal), and whether it ever served."""
        process = await asyncio.create_subprocess_exec(
            *tethered(self._command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if self._steadfast else subprocess.PIPE,
            env=self._environment,
            limit=_LINE_LIMIT,
            start_new_session=True,
        )
        self._process = process
        if self._stopping.is_set():  # while it was being started
            process.kill()
        if process.stdout is None:
            raise RuntimeError("asked for a pipe, got none")
        try:
            async with asyncio.TaskGroup() as tasks:
                hearing = [tasks.create_task(self._hear_stdout(process.stdout))]
                if process.stderr is not None:
                    hearing.append(tasks.create_task(self._hear_stderr(process.stderr)))
                impatient = tasks.create_task(self._kill_unless_ready())
                await _ended(process)
                impatient.cancel()
                # What it started itself may live on, and hold the pipes open.
                await asyncio.wait(hearing, timeout=_LAST_WORDS_S)
                for task in hearing:
                    task.cancel()
        finally:
            was_ready = self.ready
            self.url = ""
            self._ready.clear()
            if process.returncode is None:
                process.kill()
                await _ended(process)
            # Its pipes go with it, whoever else holds the other ends; asyncio has no public way to say so.
            getattr(process, "_transport").close()  # noqa: B009
        return process.returncode or 0, was_ready

    async def _kill_unless_ready(self) -> None:
        within_s = READY_DEADLINE_S if self._ready_within_s is None else self._ready_within_s
        try:
            async with asyncio.timeout(within_s):
                await self._ready.wait()
        except TimeoutError:
            self._watcher.on_line(self, f"not ready within {within_s:g} s: its process is killed")
            self.kill()

    async def _hear_stdout(self, stream: asyncio.StreamReader) -> None:
        async for line in _lines(stream):
            if found := _READY.fullmatch(line):
                self.url = found[1]
                self._ready.set()
                self._settled.set()
                self._watcher.on_ready(self)
            elif self._talkative and line:
                self._watcher.on_line(self, line)

    async def _hear_stderr(self, stream: asyncio.StreamReader) -> None:
        async for line in _lines(stream):
            if not line:
                continue
            level, text = readable(line)
            self._last_words = text
            now = time.monotonic()
            if self._talkative or (level in _LOUD and now - self._heard.get(text, -1e9) > _REPEATED_AFTER_S):
                if len(self._heard) > 200:
                    self._heard.clear()
                self._heard[text] = now
                self._watcher.on_line(self, f"{level}: {text}")


async def _ended(process: asyncio.subprocess.Process) -> int:
    """Wait for the end of a process; ``wait`` also waits for its pipes, which what it started may hold open."""
    while process.returncode is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_INTERVAL_S):
                await process.wait()
    return process.returncode


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # longer than the limit; the stream has dropped it and goes on
            continue
        if not line:
            return
        yield line.decode("utf-8", "replace").rstrip()


def readable(line: str) -> tuple[str, str]:
    """Turn a log line of a program into its level and a sentence; what is no JSON is an error's text."""
    try:
        found = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        # Of a traceback only the last line is for people; `--log-level debug` shows all of it.
        is_trace = line.startswith((" ", "Traceback "))
        return "debug" if is_trace else "error", line.strip()
    level = "info" if found.get("event") in TOLD_BETTER else str(found.get("level", "info"))
    return level, in_words(found)


def in_words(found: Mapping[str, object]) -> str:
    """Turn a structured log entry into a sentence: the event, its facts, and the last line of a traceback."""
    facts = ", ".join(f"{key}={value}" for key, value in found.items() if key not in _DULL)
    text = str(found.get("event", "")) + (f" ({facts})" if facts else "")
    if trace := str(found.get("exception", "")).strip():
        text += f": {trace.splitlines()[-1]}"
    return text
