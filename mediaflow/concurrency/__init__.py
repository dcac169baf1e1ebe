"""The stream concurrency service: ``python -m mediaflow.concurrency``."""

from mediaflow.concurrency.app import build, command, run, surface

__all__ = ["build", "command", "run", "surface"]
