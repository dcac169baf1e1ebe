"""How a process that takes part speaks to the bench: lines of JSON on stdout; and the loop that all run on."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import msgspec
import uvloop


def say(**figures: Any) -> None:
    """Say one JSON object."""
    sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
    sys.stdout.flush()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
