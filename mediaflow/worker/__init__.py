"""The program that hosts an instance: ``python -m mediaflow.worker --slots N``."""

from mediaflow.worker.app import command, hosting, run, run_program
from mediaflow.worker.handlers import LoadedApp, hold, load_app

__all__ = ["LoadedApp", "command", "hold", "hosting", "load_app", "run", "run_program"]
