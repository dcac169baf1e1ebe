"""``python -m mediaflow.concurrency``."""

import sys

from mediaflow.concurrency import command
from mediaflow.web.program import main

if __name__ == "__main__":
    sys.exit(main(command))
