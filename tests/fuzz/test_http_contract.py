"""Balancer and worker keep to their own OpenAPI documents, whatever is sent to them."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.redis]

TOOL = Path(sys.executable).with_name("schemathesis")
RUN_WITHIN_S = 100.0
# Right in form is not all: a cursor is none that a page gave, a key was used with another body, slots run out. And a
# call that was ended is still known for a while.
CONFIGURATION = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "422", "503"]
use_after_free.enabled = false
"""


async def outcome_of(url: str, folder: Path) -> tuple[int, str]:
    """Run the tool on a program; return its exit status and what it said.

    Left out are the stream that never ends, and the request that ends the program.
    """
    configuration = folder / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    process = await asyncio.create_subprocess_exec(
        *(str(TOOL), "--config-file", str(configuration), "run", url + "/openapi.json", "--seed", "1"),
        *("--max-examples", "8", "--generation-database", "none", "--no-color", "--request-timeout", "10"),
        *("--exclude-path", "/events"),
        *("--exclude-path", "/instances/{instanceId}/drain"),
        cwd=folder,
        env={**os.environ, "PYTHONUTF8": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(RUN_WITHIN_S):
            output = (await process.communicate())[0].decode(errors="replace")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output


@pytest.mark.timeout(RUN_WITHIN_S + 60)
@pytest.mark.parametrize("through", ["loadbalancer", "worker"])
async def test_nothing_that_is_sent_gets_an_answer_which_the_document_does_not_tell_of(
    fleet, tmp_path, through
):
    assert TOOL.is_file(), "needs schemathesis: pip install -e .[test]"
    worker = await fleet.worker("alpha", 1000)
    program = worker if through == "worker" else fleet.start(through)
    await program.ready()
    status, output = await outcome_of(program.url, tmp_path)
    assert status == 0, output
    assert "request failed" not in fleet.report()
    assert "Traceback" not in fleet.report()
