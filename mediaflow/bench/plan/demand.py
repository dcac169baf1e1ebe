"""What a fleet is to carry, and what its parts may be burdened with."""

import msgspec

from mediaflow.core.lease import MIN_TTL_S
from mediaflow.core.partitions import MAX_PARTITIONS

LARGEST = 10**12


class DemandError(ValueError):
    """Something that cannot be asked for; the message names it."""


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions and streams that live at once, and the rest that decides what they take.

    Attributes:
        sessions: Live at any time, one a call.
        call_minutes: Mean length of a call.
        lease_ttl_s: Renewed each third of it.
        streams: Live at any time.
        stream_minutes: Mean length of a stream.
        stream_heartbeat_s: Between two heartbeats of a stream.
        slots: Sessions that one worker process may hold.
        handler_us: Processor time that the handler of one session takes each second; only users know it.
        retention_s: How long an ended call is remembered.
        partitions: Of the namespace.
        utilisation: Share of a core that a process may use, so that there is room for a fail-over and for bursts.
        shard_gib: Memory that one Redis may use.
        worker_gib: Likewise for a worker process.
        network_gbit: What the network of a shard carries a second.
        clients: Connections that one Redis takes (``maxclients``).
        files: Files and connections that one process may have open.
        spares: Balancers, watchdogs and concurrency services beyond what the load takes.
    """

    sessions: int = 0
    streams: int = 0
    call_minutes: float = 10.0
    lease_ttl_s: float = 10.0
    stream_minutes: float = 60.0
    stream_heartbeat_s: float = 30.0
    slots: int = 100
    handler_us: float = 0.0
    retention_s: float = 3600.0
    partitions: int = 32
    utilisation: float = 0.5
    shard_gib: float = 16.0
    worker_gib: float = 2.0
    network_gbit: float = 10.0
    clients: int = 10_000
    files: int = 65_536
    spares: int = 1

    def __post_init__(self) -> None:
        """Refuse what contradicts itself or cannot be.

        Raises:
            DemandError: As a ValueError, so that msgspec reports it.
        """
        bounds: dict[str, tuple[float, float]] = {
            "sessions": (0, LARGEST),
            "streams": (0, LARGEST),
            "call_minutes": (0.001, 1e6),
            "lease_ttl_s": (MIN_TTL_S, 1e6),
            "stream_minutes": (0.001, 1e6),
            "stream_heartbeat_s": (1, 1e6),
            "slots": (1, 1_000_000),
            "handler_us": (0, 1e6),
            "retention_s": (0, 1e8),
            "partitions": (1, MAX_PARTITIONS),
            "utilisation": (0.01, 1),
            "shard_gib": (0.01, 1e6),
            "worker_gib": (0.01, 1e6),
            "network_gbit": (0.001, 1e6),
            "clients": (1, 10**9),
            "files": (1, 10**9),
            "spares": (0, 1000),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise DemandError(f"{name} = {value:.15g}: use {least:.15g} to {most:,.15g}")
        if not self.sessions and not self.streams:
            raise DemandError("neither sessions nor streams: there is nothing to plan for")
