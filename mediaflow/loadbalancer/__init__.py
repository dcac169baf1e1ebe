"""The program that places calls on instances: ``python -m mediaflow.loadbalancer``."""

from mediaflow.loadbalancer.app import build, command, run

__all__ = ["build", "command", "run"]
