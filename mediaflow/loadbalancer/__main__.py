"""``python -m mediaflow.loadbalancer``."""

import sys

from mediaflow.loadbalancer import command
from mediaflow.web.program import main

if __name__ == "__main__":
    sys.exit(main(command))
