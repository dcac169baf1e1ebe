"""The logbook of one session: one log line for each change of its state, and the figures of it.

Log lines bear the names that the same changes have in ``/events``, and name call, session, instance and fence.
"""

from typing import Any

import structlog

from mediaflow.core.tenure import EndReason
from mediaflow.runtime.meter import InstanceMeter
from mediaflow.store import LOSSES, Acceptance, Claim, Renewal

_log: Any = structlog.get_logger("mediaflow.session")

_STARTS = {"takeover": "session.takeover", "handoff": "session.handoff"}


class Logbook:
    """Told by a session's actor what happens; decides nothing."""

    def __init__(
        self, meter: InstanceMeter, instance_id: str, claim: Claim, accepted: Acceptance, sent_at_s: float
    ) -> None:
        """Open the logbook of a session that was accepted by a request sent at ``sent_at_s``."""
        self._meter = meter
        self._instance_id = instance_id
        self._claim = claim
        self._accepted = accepted
        self._sent_at_s = sent_at_s
        self._has_started = False
        self._parting: dict[str, Any] = {}
        self._is_retried = False

    def started(self, fence: int, now_s: float) -> None:
        """The coroutine is about to run its first line; that it is started again here is no change of state."""
        if self._has_started:
            return
        self._has_started = True
        accepted, meter = self._accepted, self._meter
        took_s = max(0.0, now_s - self._sent_at_s)
        meter.started.add(accepted.cause if accepted.cause in ("takeover", "handoff", "retry") else "created")
        said: dict[str, Any] = {"attempt": accepted.attempt}
        if accepted.cause in _STARTS:
            lost_by = LOSSES.get(accepted.vacated_by, "lease_expired")
            said["cause"] = "handoff" if accepted.cause == "handoff" else lost_by
            meter.takeovers.add(said["cause"])
            if accepted.vacant_ms is not None:
                said["gap_s"] = round(accepted.vacant_ms / 1000 + took_s, 3)
                meter.gap.observe(accepted.vacant_ms / 1000 + took_s, said["cause"])
        else:
            said["cause"] = accepted.cause or "created"
            if said["cause"] == "created":
                path = "direct" if accepted.waited_ms is None else "queued"
                meter.dispatch.observe((accepted.waited_ms or 0) / 1000 + took_s, path)
        self._tell(_STARTS.get(accepted.cause, "session.activated"), fence, **said)

    def renewed(self, renewal: Renewal, took_s: float, left_s: float, *, asked: bool) -> None:
        """Redis answered a renewal, and not with what nearly all are answered with.

        Args:
            renewal: The answer.
            took_s: Since it was decided to ask.
            left_s: What is left of the lease, as it was known before the answer.
            asked: Something had hinted at news, and it was not simply due.
        """
        meter = self._meter
        meter.renewals.add(renewal.status)
        meter.renewal.observe(took_s)
        match renewal.status:
            case "renewed" | "refenced":
                meter.lease_left.observe(max(0.0, left_s))
            case "yielded":
                self._parting["reason"] = f"in favour of {renewal.winner}"
            case "cancelled" if not asked:
                meter.missed.add()
            case _:
                pass

    def overlapped(self, overlap_s: float) -> None:
        """The coroutine ran on for so long after the session's next owner had started it."""
        self._meter.overlap.observe(max(0.0, overlap_s))
        self._parting["overlap_s"] = round(max(0.0, overlap_s), 3)

    def without_answer(self, *, rejected: bool) -> None:
        """Redis gave no answer to a renewal, or, ``rejected``, refused this session alone: a damaged record."""
        self._meter.renewals.add("rejected" if rejected else "unanswered")

    def readopted(self, outcome: str, fence: int) -> None:
        """Redis answered an attempt to put the session back."""
        self._meter.readoptions.add(outcome)
        if outcome == "readopted":
            self._tell("session.readopted", fence)

    def refenced(self, fence: int) -> None:
        """The session goes on under a new fence."""
        _log.debug("session.refenced", **self._names(fence))

    def failed(self, reason: str, status: str) -> None:
        """Redis was told of a failed attempt: ``written`` if another follows, ``failed`` if it was the last."""
        if status in ("written", "failed"):
            self._parting["reason"] = reason
            self._is_retried = status == "written"

    def gave_way(self, winner: str) -> None:
        """The session was complete, and turned out to have a senior sibling."""
        self._parting["reason"] = f"in favour of {winner}"

    def stuck(self) -> None:
        """The coroutine ignores its cancellation."""
        self._meter.stuck.add()

    def ended(self, end: EndReason, fence: int) -> None:
        """The session is no longer this owner's."""
        event = f"session.{end}"
        self._meter.ended.add("retried" if self._is_retried else end)
        if end == "drained" or self._is_retried:
            event = "session.pending"
            self._parting.setdefault("reason", "drained")
        self._tell(event, fence, **self._parting)

    def _tell(self, event: str, fence: int, **more: Any) -> None:
        _log.info(event, **self._names(fence), **more)

    def _names(self, fence: int) -> dict[str, Any]:
        return {
            "call": self._claim.call_id,
            "session": self._claim.session_id,
            "instance": self._instance_id,
            "fence": fence,
        }
