"""The live service keeps to its own OpenAPI document, whatever is sent to it."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.redis]

TOOL = Path(sys.executable).with_name("schemathesis")
RUN_WITHIN_S = 240.0
# Ended streams and used keys are met again: what is right in form may still come too late.
CONFIGURATION = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "410", "422"]
"""


@pytest.mark.timeout(RUN_WITHIN_S + 60)
async def test_nothing_that_is_sent_gets_an_answer_which_the_document_does_not_tell_of(fleet, tmp_path):
    assert TOOL.is_file(), "needs schemathesis: pip install -e .[test]"
    # A throttle that is never met: users of generated requests are few.
    service = fleet.start("concurrency", "--stream-throttle", "1000000")
    await service.ready()
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    process = await asyncio.create_subprocess_exec(
        str(TOOL),
        *(
            "--config-file",
            str(configuration),
            "run",
            service.url + "/openapi.json",
            "--seed",
            "1",
            "--max-examples",
            "50",
        ),
        *("--generation-database", "none", "--no-color", "--request-timeout", "10"),
        cwd=tmp_path,
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
    assert process.returncode == 0, output
    assert "request failed" not in service.report()
