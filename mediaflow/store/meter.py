"""What the store measures of itself: requests to Redis, what they met with, and messages."""

from mediaflow.telemetry.instruments import FAST_S, Meter, Spread, Tally

LOSSES = {
    "lease expired": "lease_expired",
    "process died": "process_died",
    "restarted": "process_replaced",
}
"""How an owner is lost, as labels: by the reason that a sweep is given."""


class StoreMeter(Meter):
    """Requests and messages of one store."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.requests = Spread(
            "store_request_seconds",
            "Time until Redis answered, with all retries, by operation: a script's name (a batch is one request), "
            "'read' or 'ping'. Requests that failed are not in it.",
            FAST_S,
            "operation",
        )
        self.errors = Tally(
            "store_errors",
            "Requests to Redis that failed for good: 'unavailable' (no answer in time, or refused; may have happened), "
            "'not_durable' (too few replicas), 'rejected' (a fault in the data or of ours).",
            "operation",
            "kind",
        )
        self.retries = Tally(
            "store_retries", "Tries of requests to Redis that failed and were repeated.", "operation"
        )
        self.subscriptions = Tally(
            "store_subscriptions",
            "Times that messages began to be listened to; each but the first follows a gap in which some were lost.",
            "channel",
            known=("inbox", "hints"),
        )


class SweepMeter(Meter):
    """What sweeps through one store found; watchdogs show it."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.orphaned = Tally(
            "sessions_orphaned",
            "Sessions that this process found without their owner and made pending: its lease expired, its process "
            "died (its host said so), another process runs under its name, or it did not accept what it was assigned.",
            "cause",
            known=(*LOSSES.values(), "not_accepted"),
        )
        self.parked = Tally(
            "sessions_parked",
            "Sessions given up as failed because their owners kept dying on them (max_takeovers).",
        )
