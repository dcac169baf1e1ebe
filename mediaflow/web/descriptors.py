"""How many files a program may have open: what the host lets it, and not the few that a process begins with.

The soft limit is 1,024 on most systems for the sake of programs that call ``select()``, which knows no more. Whoever
does not is meant to raise it to the hard one by itself (systemd.exec(5) on ``LimitNOFILE=``).
"""

import contextlib
import resource

ENOUGH = 65_536
"""More than this a program does not ask for."""


def reachable() -> int:
    """Return how many files a program may have open once it has asked for more; -1 for any number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return -1
    return max(soft, ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH))


def reach() -> None:
    """Have this process, and those that it starts from now on, be allowed as many as that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != (wanted := reachable()) and wanted >= 0:
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower bound beside the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
