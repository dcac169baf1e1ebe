"""Runs a program that is killed when its parent is: a step between the parent and the program, in the same process.

The usual way, ``preexec_fn``, runs Python between ``fork`` and ``exec``: a lock that some other thread holds at that
moment stays locked in the child for ever, and uvloop stands still until the child has passed ``exec``. So this file is
run as a script instead, on nothing but the standard library, and becomes the program.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 127


def tethered(command: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs ``command`` and has it killed when the process that calls this dies.

    The signal is sent when the *thread* that starts it ends, so start it from one that lives as long as the process.
    Where the kernel has no such thing the command is returned as it is: a SIGKILL of the parent leaves it behind.
    A program that cannot be run ends with status 127, and says why on its stderr.
    """
    if sys.platform != "linux" or not sys.executable:
        return tuple(command)
    return (sys.executable, "-I", "-S", __file__, str(os.getpid()), *command)


def _become(parent: int, command: list[str]) -> None:
    """Be the program from here on; returns only if that cannot be."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        return
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
    sys.exit(_CANNOT_RUN)
