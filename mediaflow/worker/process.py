"""``python -m mediaflow.worker.process``: one of the processes of a worker, started by :mod:`mediaflow.worker.several`.

It is a worker, except that an app's own settings do not count: they have been weighed against all others, and
what came out is in the environment.
"""

import sys

import structlog

from mediaflow.settings import Settings
from mediaflow.web.program import command as make_command
from mediaflow.web.program import main
from mediaflow.worker.app import APP_OPTION, FLAGS, NAME, run
from mediaflow.worker.handlers import LoadedApp


async def _run(settings: Settings, *, app: LoadedApp | None = None) -> None:
    # All processes write to one stderr: each line says whose it is.
    structlog.contextvars.bind_contextvars(instance=settings.instance_id)
    await run(settings, app=app)


command = make_command(NAME, _run, FLAGS, [APP_OPTION], about="Run one process of a worker.")

if __name__ == "__main__":
    sys.exit(main(command))
