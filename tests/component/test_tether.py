"""A program that is started on a tether dies with who started it, and is otherwise the program itself."""

import asyncio
import os
import subprocess
import sys

from mediaflow.store.tether import tethered


async def test_the_program_has_the_process_id_that_its_starter_knows():
    process = await asyncio.create_subprocess_exec(
        *tethered([sys.executable, "-c", "import os; print(os.getpid())"]), stdout=subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert int(said) == process.pid


async def test_a_program_that_cannot_be_run_is_named():
    process = await asyncio.create_subprocess_exec(*tethered(["/nowhere/server"]), stderr=subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 127
    assert said.decode() == "cannot run /nowhere/server: No such file or directory\n"


async def test_the_environment_is_the_starter_s(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    process = await asyncio.create_subprocess_exec(
        *tethered([sys.executable, "-c", "import os; print(os.environ['PYTHONPATH'])"]),
        stdout=subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert said == b"/somewhere\n"


async def test_a_program_whose_starter_died_meanwhile_does_not_start():
    command = list(tethered([sys.executable, "-c", "print('started')"]))
    command[command.index(str(os.getpid()))] = "1"
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    assert said == b""
