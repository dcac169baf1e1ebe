"""The documents of the project, taken apart into their code blocks."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "ARCHITECTURE.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("config/**/*.md")),
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"\n\n {4}\S")


class Block(NamedTuple):
    """One fenced block; ``line`` is where its text begins."""

    page: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The file that it is meant to be, which its first line says: ``# bot.py``; empty for none."""
        found = re.match(r"# ([\w-]+\.\w+)\n", self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(*languages: str, page: str = "") -> list[Block]:
    """Return the blocks of a page, or of all, in order; of all languages, or of those."""
    found: list[Block] = []
    for one in (page,) if page else PAGES:
        text = read(one)
        for fence in _FENCE.finditer(text):
            line = text[: fence.start(2)].count("\n") + 1
            if not languages or fence[1] in languages:
                found.append(Block(one, line, fence[1], fence[2]))
    return found


def indented_blocks(page: str) -> list[str]:
    """Return what is a code block by its indentation alone, which no test would find."""
    text = _FENCE.sub("", read(page))
    return [match[0].strip() for match in _INDENTED.finditer(text)]
