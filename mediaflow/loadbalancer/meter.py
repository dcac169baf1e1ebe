"""What a balancer measures of the calls that it places."""

from mediaflow.telemetry.instruments import Meter, Tally


class BalancerMeter(Meter):
    """One for each balancer."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.tries = Tally(
            "balancer_tries",
            "Requests to instances by outcome: 'answered' (placed, or told the client something), 'refused' (503: no "
            "free slot, draining, Redis away), 'unreachable', 'silent' (no answer, or an error of its own).",
            "outcome",
            known=("answered", "refused", "unreachable", "silent"),
        )
        self.refusals = Tally(
            "balancer_refusals",
            "Calls answered with 503: 'no_instance' is live; 'no_free_slot', and calls are not queued; "
            "'refused_by_instance' (the last one asked was full, or draining; its own metrics say which); "
            "'store_unavailable' to the instances; 'unanswered' by them in time; 'instances_unknown', since the "
            "balancer itself has not reached Redis yet.",
            "reason",
            known=(
                "no_instance",
                "no_free_slot",
                "refused_by_instance",
                "store_unavailable",
                "unanswered",
                "instances_unknown",
            ),
        )
