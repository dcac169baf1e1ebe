"""Coroutines that test workers run (``--app harness.handlers:count``), and the journal that they keep.

The journal is what they saw with their own eyes: one JSON line for each start, each acknowledged
checkpoint and each end, in a file of each process, with times of the host's one monotonic clock.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

JOURNAL = "HARNESS_JOURNAL"


class Entry(NamedTuple):
    """One line: ``what`` is ``start``, ``write`` or ``end``; a write lasted from ``asked_s`` to ``at_s``.

    ``resumed``: the number in the checkpoint that a start found, None without one.
    """

    what: str
    call_id: str
    instance_id: str
    fence: int
    count: int
    asked_s: float
    at_s: float
    pid: int
    reason: str = ""
    session_id: str = ""
    incarnation: int = 0
    attempt: int = 0
    resumed: int | None = None


def note(what: str, session: Any, count: int, asked_s: float, reason: str = "") -> None:
    folder = os.environ.get(JOURNAL)
    if not folder:
        return
    entry = Entry(
        what,
        session.call_id,
        session.instance_id,
        session.fence,
        count,
        asked_s,
        time.monotonic(),
        os.getpid(),
        reason,
        session.id,
        _incarnation_of(session),
        session.attempt,
        session.resume.get("count") if isinstance(session.resume, dict) else None,
    )
    with (Path(folder) / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")


def _incarnation_of(session: Any) -> int:
    """Return which process of its instance runs a session; no business of handlers, but of judges of histories."""
    return session._keeper._around.owner.incarnation


def read_journal(folder: Path) -> list[Entry]:
    """Return what all processes wrote, by time; a line cut off by a kill is left out."""
    entries: list[Entry] = []
    for path in folder.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            try:
                entries.append(Entry(*json.loads(line)))
            except ValueError:
                continue
    return sorted(entries, key=lambda entry: entry.at_s)


def of_call(entries: Iterable[Entry], call_id: str) -> list[Entry]:
    return [entry for entry in entries if entry.call_id == call_id]


async def count(session: Any) -> None:
    """Count, with a checkpoint of each number, ``metadata["every_s"]`` (0.05) apart, for ever."""
    every_s = float(session.metadata.get("every_s", 0.05))
    counted = int((session.resume or {"count": 0})["count"])
    note("start", session, counted, time.monotonic())
    try:
        while True:
            asked_s = time.monotonic()
            fence = session.fence
            await session.checkpoint({"count": counted + 1, "fence": fence})
            counted += 1
            note("write", session, counted, asked_s)
            await asyncio.sleep(every_s)
    finally:
        note("end", session, counted, time.monotonic(), session.end_reason or "")


async def idle(session: Any) -> None:
    """Do nothing until the call is ended."""
    note("start", session, 0, time.monotonic())
    await asyncio.Event().wait()


async def brief(session: Any) -> None:
    """End by itself after ``metadata["lasts_s"]``."""
    note("start", session, 0, time.monotonic())
    await asyncio.sleep(float(session.metadata.get("lasts_s", 0.0)))
    note("end", session, 0, time.monotonic(), "returned")


async def broken(session: Any) -> None:
    """Raise at once."""
    note("start", session, 0, time.monotonic())
    raise RuntimeError("this handler always fails")


async def stubborn(session: Any) -> None:
    """Keep the event loop of the instance ``metadata["of"]`` busy for ``metadata["blocks_s"]`` seconds; then idle."""
    note("start", session, 0, time.monotonic())
    if session.instance_id == session.metadata.get("of"):
        time.sleep(float(session.metadata["blocks_s"]))
    await asyncio.Event().wait()
