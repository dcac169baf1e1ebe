"""``python -m mediaflow.worker``."""

import sys

from mediaflow.web.program import main
from mediaflow.worker import command

if __name__ == "__main__":
    sys.exit(main(command))
