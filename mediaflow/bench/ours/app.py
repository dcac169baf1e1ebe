"""The app of our workers in the contests: its sessions are as :class:`~mediaflow.bench.tally.Tally` has them.

``BENCH_EXPECTED`` and ``BENCH_KIND`` say how many to expect, and of which kind; a call's id ends with its number.
"""

import os

from mediaflow import MediaApp, Session
from mediaflow.bench.tally import NOTHING, Tally

app = MediaApp()
tally = Tally(int(os.environ.get("BENCH_EXPECTED", "0")), os.environ.get("BENCH_KIND", NOTHING))


@app.session
async def handle(session: Session) -> None:
    """Be one session."""
    await tally.handle(int(session.call_id.rpartition("-")[2]))
