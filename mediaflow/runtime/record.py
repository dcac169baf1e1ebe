"""What the owner of a session knows of its record: what Redis told when it was accepted, and what was written since."""

import msgspec

from mediaflow.store import Acceptance, Claim, Held


class Record:
    """The owner's copy of a record; it asks Redis for nothing.

    Attributes:
        kept: As Redis is known to hold it.
        is_at_risk: The server may be one that lost the last checkpoint.
    """

    def __init__(self, accepted: Acceptance) -> None:
        """Begin with what was accepted."""
        self.kept = accepted
        self.is_at_risk = False
        self._checkpoint_number = accepted.checkpoint_number
        self._details_number = 0

    def accept(self, kept: Acceptance) -> None:
        """Take in that the session was accepted anew; numbers go on from the highest."""
        self._checkpoint_number = max(self._checkpoint_number, kept.checkpoint_number)
        self.kept = kept

    def server_changed(self) -> None:
        """Take in that another server answers."""
        self.is_at_risk = self.kept.checkpoint is not None

    def next_checkpoint(self) -> int:
        """Return the number of the next checkpoint."""
        self._checkpoint_number += 1
        return self._checkpoint_number

    def next_details(self, fence: int) -> int:
        """Return the number under which details are published next."""
        # Numbers must grow across owners, whose counts are not known here: the fence grows with them.
        self._details_number = max(self._details_number + 1, fence)
        return self._details_number

    def keep_checkpoint(self, number: int, value: bytes) -> None:
        """Take in that a checkpoint was stored, unless a newer one was."""
        if number > self.kept.checkpoint_number:
            self.kept = msgspec.structs.replace(self.kept, checkpoint=value, checkpoint_number=number)

    def keep_details(self, value: bytes) -> None:
        """Take in that details were published."""
        self.kept = msgspec.structs.replace(self.kept, details=value)

    def held(self, claim: Claim) -> Held:
        """Return all of it, to be put back into a Redis that forgot the session."""
        kept = self.kept
        return Held(
            claim=claim,
            metadata=kept.metadata,
            checkpoint=kept.checkpoint,
            checkpoint_number=kept.checkpoint_number,
            details=kept.details,
            attempt=kept.attempt,
            created_at_ms=kept.created_at_ms,
            idempotency_key=kept.idempotency_key,
            body_digest=kept.body_digest,
            trace=kept.trace,
            account=kept.account,
        )
