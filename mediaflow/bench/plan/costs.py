"""What one step costs: processor time, memory, bytes on the wire. Measured here, or read from a file."""

import math
from pathlib import Path

import msgspec


class CostsError(ValueError):
    """A file of costs is of no use; the message says why."""


class Costs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unit costs. ``*_us`` is processor time in microseconds; ``redis_*`` is spent in Redis.

    Attributes:
        machine: Where they were measured, in words.
        renewals_gather_in: The part of a lease within which renewals go out together, as in 1/40.
        redis_start_us, redis_end_us: A call placed, and ended by a request.
        redis_script_us, redis_renew_us: A renewal script, and each lease in it.
        redis_tick_us: A watchdog's look at one partition.
        redis_heartbeat_us: Of an instance, all that goes with it.
        redis_reading_us: Each instance of a reading of the registry.
        redis_stream_start_us, redis_stream_beat_us, redis_stream_stop_us: Of a stream.
        worker_start_us, worker_end_us: A call that came over HTTP, and its end.
        worker_script_us, worker_renew_us: As in Redis; the actor's turn included. The handler's own work is not.
        worker_idle_us: A worker that holds nothing, each second.
        balancer_start_us, balancer_end_us: A request that goes through it.
        reader_us: Each instance of a reading, in a balancer or a watchdog.
        watchdog_tick_us: A look at one partition.
        stream_start_us, stream_beat_us, stream_stop_us: In the concurrency service, over HTTP.
        redis_session_bytes, redis_ended_bytes: A live session in Redis, and one that has ended until it is forgotten.
        redis_stream_bytes, redis_ended_stream_bytes: Likewise.
        worker_session_bytes: A live session in its worker, without what its handler keeps.
        renewal_bytes, beat_bytes, reading_bytes: On the wire of Redis, both ways: a renewal, a stream's heartbeat, an
            instance of a reading.
    """

    machine: str
    renewals_gather_in: float
    redis_start_us: float
    redis_end_us: float
    redis_script_us: float
    redis_renew_us: float
    redis_tick_us: float
    redis_heartbeat_us: float
    redis_reading_us: float
    redis_stream_start_us: float
    redis_stream_beat_us: float
    redis_stream_stop_us: float
    worker_start_us: float
    worker_end_us: float
    worker_script_us: float
    worker_renew_us: float
    worker_idle_us: float
    balancer_start_us: float
    balancer_end_us: float
    reader_us: float
    watchdog_tick_us: float
    stream_start_us: float
    stream_beat_us: float
    stream_stop_us: float
    redis_session_bytes: float
    redis_ended_bytes: float
    redis_stream_bytes: float
    redis_ended_stream_bytes: float
    worker_session_bytes: float
    renewal_bytes: float
    beat_bytes: float
    reading_bytes: float

    def __post_init__(self) -> None:
        """Refuse what nothing can cost."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} = {value}: use 0 or more")
        if self.renewals_gather_in < 1:
            raise ValueError(f"renewals_gather_in = {self.renewals_gather_in}: use 1 or more")


def read(path: Path) -> Costs:
    """Read what :func:`write` wrote.

    Raises:
        CostsError: There is no such file, or it is no such costs.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Costs)
    except OSError as error:
        raise CostsError(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CostsError(f"{path}: these are no costs as --save-costs writes them: {error}") from None


def check_place(path: Path) -> None:
    """Find out before anything is measured, and not after it, whether costs can be written there.

    Raises:
        CostsError: They cannot.
    """
    try:
        path.open("ab").close()
    except OSError as error:
        raise CostsError(f"cannot write {str(path)[:200]!r}: {error.strerror}") from None


def write(path: Path, costs: Costs) -> None:
    """Write costs as JSON that people can read and change.

    Raises:
        CostsError: It cannot be written.
    """
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(costs), indent=2) + b"\n")
    except OSError as error:
        raise CostsError(f"{path}: {error.strerror}") from None
