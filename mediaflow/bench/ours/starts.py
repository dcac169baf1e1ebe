"""A handler that notes the moment of its first line in the file that ``BENCH_STARTS`` names, and then runs on."""

import asyncio
import os

from mediaflow import Session
from mediaflow.bench.ours.moments import note_now

_starts = os.open(os.environ["BENCH_STARTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


async def handle(session: Session) -> None:
    """Note that it runs, and run until its call ends."""
    note_now(_starts)
    del session
    await asyncio.Event().wait()
