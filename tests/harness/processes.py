"""The real programs as real processes: started, reached, stopped and killed by tests."""

import asyncio
import collections
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 60.0
END_WITHIN_S = 30.0
LINES_KEPT = 400


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


class Program:
    """One program as a process. Its output is read all the time, so that it never blocks on a full pipe.

    ``inside`` are the words of a command that becomes the program, such as ``ip netns exec``.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        inside: Sequence[str] = (),
    ) -> None:
        self.name = module
        self.stdout: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
        self.stderr: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("MEDIAFLOW_")}
        self._process = subprocess.Popen(
            [*inside, sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={
                **inherited,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
                "PYTHONUNBUFFERED": "1",
                **(environ or {}),
            },
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self._process.stdout, self.stdout), (self._process.stderr, self.stderr))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream, lines) -> None:
        with stream:
            for line in stream:
                lines.append(line.decode(errors="replace").rstrip("\n"))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    @property
    def url(self) -> str:
        """Where it serves, from its ready line; empty before."""
        for line in list(self.stdout):
            words = line.split()
            if len(words) == 3 and words[0] == "ready":
                return words[2]
        return ""

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    async def ready(self, within_s: float = READY_WITHIN_S) -> str:
        """Wait for the ready line and return the address in it."""
        deadline_s = time.monotonic() + within_s
        while not self.url:
            assert self.returncode is None, f"{self.report()}\nended with status {self.returncode}"
            assert time.monotonic() < deadline_s, f"{self.report()}\nno ready line within {within_s:g} s"
            await asyncio.sleep(0.01)
        return self.url

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        self._send(signal.SIGKILL)

    def stop(self) -> None:
        """SIGSTOP: it stands still, and its connections stay open."""
        self._send(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT: it goes on."""
        self._send(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM: it should drain and exit 0."""
        self._send(signal.SIGTERM)

    def interrupt(self) -> None:
        """SIGINT, as Ctrl-C sends it."""
        self._send(signal.SIGINT)

    def _send(self, number: signal.Signals) -> None:
        if self.returncode is None:
            self._process.send_signal(number)

    async def ended(self, within_s: float = END_WITHIN_S) -> int:
        """Wait for its end and return its exit status."""
        deadline_s = time.monotonic() + within_s
        while self.returncode is None:
            assert time.monotonic() < deadline_s, f"{self.report()}\nstill running after {within_s:g} s"
            await asyncio.sleep(0.01)
        for reader in self._readers:
            reader.join(timeout=5)
        return self.returncode

    def close(self) -> None:
        """Kill it if it still runs, and reap it."""
        self.kill()
        self._process.wait(timeout=10)
        for reader in self._readers:
            reader.join(timeout=5)

    def report(self) -> str:
        """Return what it wrote, for people who look for the reason of a failure."""
        return "\n".join([f"--- {self.name} (pid {self.pid})", *self.stdout, "--- stderr", *self.stderr])


class Fleet:
    """The programs of one test. ``flags`` are given to each; all are killed at the end of the test."""

    def __init__(self, *flags: str, environ: Mapping[str, str] | None = None) -> None:
        self.flags = flags
        self.environ = dict(environ or {})
        self.programs: list[Program] = []

    def start(
        self,
        name: str,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        inside: Sequence[str] = (),
    ) -> Program:
        """Start ``mediaflow.<name>`` on a free port, and do not wait for it."""
        program = Program(
            f"mediaflow.{name}",
            *("--port", "0"),
            *self.flags,
            *arguments,
            environ={**self.environ, **(environ or {})},
            inside=inside,
        )
        self.programs.append(program)
        return program

    async def worker(self, instance_id: str, slots: int = 100, *arguments: str, **more: str) -> Program:
        program = self.start(
            "worker", "--instance-id", instance_id, "--slots", str(slots), *arguments, environ=more
        )
        await program.ready()
        return program

    async def workers(
        self, *instance_ids: str, slots: int = 100, arguments: tuple[str, ...] = ()
    ) -> list[Program]:
        """Start several at once: half the time of starting is Python's own, and they share two cores."""
        return list(await asyncio.gather(*(self.worker(name, slots, *arguments) for name in instance_ids)))

    async def balancer(self, *arguments: str) -> Program:
        program = self.start("loadbalancer", *arguments)
        await program.ready()
        return program

    async def watchdog(self, *arguments: str) -> Program:
        program = self.start("watchdog", *arguments)
        await program.ready()
        return program

    def close(self) -> None:
        for program in self.programs:
            program.kill()
        for program in self.programs:
            program.close()

    def report(self) -> str:
        return "\n\n".join(program.report() for program in self.programs)
