"""``python -m mediaflow`` is ``mediaflow``."""

import sys

from mediaflow.cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
