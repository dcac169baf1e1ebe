"""``python -m mediaflow.watchdog``."""

import sys

from mediaflow.watchdog import command
from mediaflow.web.program import main

if __name__ == "__main__":
    sys.exit(main(command))
