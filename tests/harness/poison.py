"""A coroutine that kills its whole process, for ``--app harness.poison:handle``."""

import asyncio
import os
from typing import Any

from harness.handlers import note

STATUS = 13


async def handle(session: Any) -> None:
    """End the process of a call that is named poison; run any other until it is ended."""
    note("start", session, 0, 0.0)
    if session.call_id.startswith("poison"):
        os._exit(STATUS)
    await asyncio.Event().wait()
