"""What a watchdog measures of itself; what its sweeps found is measured by the store."""

from mediaflow.telemetry.instruments import FAST_S, Meter, Spread, Tally


class WatchdogMeter(Meter):
    """One for each watchdog."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.assigned = Tally(
            "sessions_assigned",
            "Pending sessions that this watchdog gave to instances: 'assigned', 'yielded' (a sibling runs), 'skipped' "
            "(another was faster).",
            "outcome",
            known=("assigned", "yielded", "skipped"),
        )
        self.struck_off = Tally(
            "instances_struck_off",
            "Instances that this watchdog took off the registry: their process died, or they were silent for a lease.",
            "cause",
            known=("process_died", "heartbeat_expired"),
        )
        self.turn = Spread(
            "watchdog_turn_seconds", "Time of one look at everything: tick, sweep and assign.", FAST_S
        )
        self.failed_turns = Tally(
            "watchdog_turns_failed",
            "Looks that ended early, because Redis did not answer or refused something.",
        )
