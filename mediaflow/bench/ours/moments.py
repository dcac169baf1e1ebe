"""Moments that several processes note in one file: eight bytes of nanoseconds each, of the clock that they share."""

import os
import struct
import time
from pathlib import Path

MOMENT = struct.Struct("<q")


def note_now(descriptor: int) -> None:
    """Append this moment to a file that is open for appending."""
    os.write(descriptor, MOMENT.pack(time.monotonic_ns()))


def read_moments(path: Path) -> list[int]:
    """Return what was noted so far; nothing if there is no such file."""
    noted = path.read_bytes() if path.exists() else b""
    whole = len(noted) - len(noted) % MOMENT.size
    return [moment for (moment,) in MOMENT.iter_unpack(noted[:whole])]
