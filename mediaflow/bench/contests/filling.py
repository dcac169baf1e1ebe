"""Has a worker run many sessions."""

from typing import Any

from mediaflow.bench.stage import Stage, Unfit

_CONNECTIONS = 16
"""Enough for the worker to be busy all the time, and few enough that none runs into a time-out on a slow machine."""

_MOST_S_A_SESSION = 0.01
_TRIES = 3


def sessions(stage: Stage) -> int:
    """Return how many to ask about: as the size says, and fewer in a quick run, where a slow machine must get by."""
    return stage.scaled(stage.size, 100)


async def fill(stage: Stage, url: str, number: int) -> None:
    """Start so many calls at the worker that serves at ``url``.

    Raises:
        Unfit: It did not take all of them.
        ProgramError: It took too long.
    """
    within_s = 20 + _MOST_S_A_SESSION * number
    said: dict[str, Any] = {}
    for _ in range(_TRIES):  # the same calls again: those that were started are found
        said = await stage.result(
            "mediaflow.bench.load",
            url,
            *("--play", "calls", "--connections", _CONNECTIONS, "--most", number, "--seconds", within_s),
            deadline_s=within_s + 5,
        )
        if not said["failed"]:
            return
    raise Unfit(f"{said['failed']:,} of {number:,} sessions were not started: {said['refusal']}")
