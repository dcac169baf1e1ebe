"""The Lua scripts as values: composed from ``lua/*.lua`` once, addressed by their SHA-1.

A script's header names the parts it uses (``-- USES: …``) and whether it may run when Redis is out
of memory (``-- FLAGS: allow-oom``); the latter becomes a ``#!lua`` line, which servers before version 7
and fakeredis do not know, so each script has a plain text as well.
"""

import functools
import hashlib
import re
from importlib import resources
from typing import NamedTuple


class Script(NamedTuple):
    """A script in both texts; SHA-1 sums are lower-case hex, as EVALSHA takes them."""

    name: str
    plain: str
    plain_sha: str
    flagged: str
    flagged_sha: str

    def text(self, *, flags: bool) -> str:
        """Return the text for a server that knows script flags, or does not."""
        return self.flagged if flags else self.plain

    def sha(self, *, flags: bool) -> str:
        """Return the SHA-1 of :meth:`text`."""
        return self.flagged_sha if flags else self.plain_sha


def source(name: str) -> str:
    """Return the text of ``lua/<name>.lua`` as it stands in its file."""
    return resources.files("mediaflow.store").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def header(text: str, field: str) -> list[str]:
    """Return the words of one field (``USES``, ``FLAGS``) of a script's header; none if it is not there."""
    found = re.search(rf"^-- {field}: (.+)$", text, re.MULTILINE)
    return found.group(1).split() if found else []


@functools.cache
def load(name: str) -> Script:
    """Compose a script from its file and the parts that its header names.

    Raises:
        FileNotFoundError: There is no such script, or no such part.
    """
    body = source(name)
    plain = "\n".join([*(source(f"_{part}") for part in header(body, "USES")), body])
    flags = header(body, "FLAGS")
    flagged = f"#!lua flags={','.join(flags)}\n{plain}" if flags else plain
    return Script(name, plain, _sha1(plain), flagged, _sha1(flagged))


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of all scripts, in order; parts of scripts are none."""
    folder = resources.files("mediaflow.store").joinpath("lua")
    files = (file.name.removesuffix(".lua") for file in folder.iterdir() if file.name.endswith(".lua"))
    return tuple(sorted(name for name in files if not name.startswith("_")))


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
