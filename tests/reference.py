"""The reference of the Python API, from its docstrings: ``python tests/reference.py build/api`` makes the pages."""

import sys
from pathlib import Path

import pdoc

import mediaflow


def build(folder: Path) -> Path:
    """Write the pages and return the one of what mediaflow exports, which is all that is public."""
    for name in mediaflow.__all__:
        getattr(
            mediaflow, name
        )  # pdoc looks only at what has been imported, and the limiter is when it is asked for
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc("mediaflow", r"!mediaflow\.", output_directory=folder)
    return folder / "mediaflow.html"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(build(Path(sys.argv[1])))
