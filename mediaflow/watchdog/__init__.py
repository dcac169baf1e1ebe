"""Finds dead owners and gives pending sessions new ones: ``python -m mediaflow.watchdog``."""

from mediaflow.watchdog.app import build, command, run
from mediaflow.watchdog.watchdog import Watchdog

__all__ = ["Watchdog", "build", "command", "run"]
