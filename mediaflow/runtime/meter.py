"""What an instance measures of itself and of its sessions."""

from mediaflow.store import LOSSES
from mediaflow.telemetry.instruments import FAST_S, SLOW_S, Meter, Spread, Tally

_ENDS = ("completed", "failed", "retried", "lost", "yielded", "cancelled", "drained")


class InstanceMeter(Meter):
    """One for each instance."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.started = Tally(
            "sessions_started",
            "Sessions whose coroutine was started here: newly created, taken over from an owner that was lost, handed "
            "off by one that drained, or retried after a failed attempt.",
            "cause",
            known=("created", "takeover", "handoff", "retry"),
        )
        self.ended = Tally(
            "sessions_ended",
            "Sessions that this instance no longer owns: completed, failed for good, retried (the attempt failed, and "
            "another follows), lost to another owner, yielded to a senior sibling, cancelled, or drained.",
            "reason",
            known=_ENDS,
        )
        self.dispatch = Spread(
            "dispatch_seconds",
            "From the acceptance of a call to the first line of its coroutine: 'direct' from the request that reached "
            "this instance, 'queued' from the creation of the session, by the clock of Redis. First starts only.",
            SLOW_S,
            "path",
            known=("direct", "queued"),
        )
        self._measure_takeovers()
        self._measure_renewals()
        self._measure_offers()

    @property
    def renewed(self) -> int:
        """How many renewals were confirmed."""
        return self.renewals.values["renewed",] + self.renewals.values["refenced",]

    def _measure_takeovers(self) -> None:
        causes = (*LOSSES.values(), "handoff")
        self.takeovers = Tally(
            "takeovers",
            "Sessions that were started here after another owner: its lease expired, its process died, a new process "
            "replaced it, or it handed the session off.",
            "cause",
            known=causes,
        )
        self.gap = Spread(
            "takeover_gap_seconds",
            "How long nobody is known to have run a session: from the last sign of life of its last owner (its last "
            "renewal; of a process that was seen to die, the sweep right after; of a drain, the handoff) to the first "
            "line here. In lease time: what Redis itself was away for counts one second at most. A silent owner may "
            "have gone on longer than it was heard of; see takeover_overlap_seconds.",
            SLOW_S,
            "cause",
            known=causes,
        )
        self.overlap = Spread(
            "takeover_overlap_seconds",
            "How long this instance ran a session on after its next owner had started it, measured when it learnt of "
            "it. A process that stood still counts as running. Owners that never come back measure nothing.",
            SLOW_S,
        )

    def _measure_renewals(self) -> None:
        self.renewals = Tally(
            "renewals",
            "Renewals of leases by what Redis said: 'renewed', 'refenced' (held, under a new fence), 'lost', "
            "'yielded', 'cancelled', 'unknown' (Redis forgot the session), 'unanswered', 'rejected' (damaged).",
            "outcome",
            known=(
                "renewed",
                "refenced",
                "lost",
                "yielded",
                "cancelled",
                "unknown",
                "unanswered",
                "rejected",
            ),
        )
        self.renewal = Spread(
            "renewal_seconds",
            "Time of an answered renewal, waiting for others to go out with (a 40th of the lease) included.",
            FAST_S,
        )
        self.lateness = Spread(
            "renewal_lateness_seconds", "How much later than it was due a renewal was sent.", FAST_S
        )
        self.lease_left = Spread(
            "renewal_lease_left_seconds",
            "What was left of the lease, as its owner counts it, when its renewal was confirmed; 0 if nothing was.",
            (0.0, *SLOW_S[4:]),
        )
        self.readoptions = Tally(
            "readoptions",
            "Sessions that Redis had forgotten: 'readopted' (put back), 'there' (it had it after all), 'lost'.",
            "outcome",
            known=("readopted", "there", "lost"),
        )

    def _measure_offers(self) -> None:
        self.refusals = Tally(
            "instance_refusals",
            "Requests for a call that this instance refused. A balancer tries elsewhere, so that its callers see less.",
            "reason",
            known=(
                "no_free_slot",
                "queue_full",
                "draining",
                "store_unavailable",
                "key_conflict",
                "unwanted",
                "account_full",
                "account_throttled",
            ),
        )
        self.assignments = Tally(
            "assignments",
            "Sessions that a watchdog assigned to this instance: 'accepted', 'refused' (no free slot, or draining), "
            "'void' (given to another since, or ended), 'unanswered' (Redis did not answer).",
            "outcome",
            known=("accepted", "refused", "void", "unanswered"),
        )
        self.missed = Tally(
            "hints_missed",
            "Ended calls that this instance learnt of by a scheduled renewal, though a message had told of them.",
        )
        self.stuck = Tally(
            "coroutines_stuck",
            "Coroutines that ignored their cancellation for 10 s and were given up on; they may still run.",
        )
