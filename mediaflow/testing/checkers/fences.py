"""G3: only the newest owner of a session writes, and what it wrote is what its successor resumes from.

Demanded (the time of a ``Wrote`` is when Redis accepted it):

* the fences of the accepted writes of a session never fall, nor do those of a call;
* no write is accepted but from the owner and under the fence that the record shows, nor by an ended session;
* within a session, the numbers of the writes of one kind never go back;
* each fence that Redis grants is above all that it granted for the call before;
* a handler starts under a higher fence than any other owner of its session started under before;
* it resumes from a checkpoint not older than the last that was accepted: before the handler stopped that ran in
  the same process, if there was one, as a write that was under way may arrive after the restart read it.

Exempt:

* *Clock back and data lost.* Once Redis has both lost data and seen its clock go back, in either order, whatever
  fence it lost may be above what its clock gives: all fences are compared anew from each such fault on.
* *Rolled back.* A Redis that was rolled back holds the owner of then, and accepts a write or acceptance of it that
  was under way, until the newer one has shown its fence: so fences of writes and starts are compared with those up
  to the moment that it went back to. Fences that are granted anew must be higher than all the same.
* *Siblings.* After a loss a call may have two live sessions until one yields. The script looks at the fence of the
  session that writes, so the fences of two siblings interleave: from then on each session is judged by itself.
* *Checkpoints.* What a loss covers, a successor may lack, and numbers may go back to what Redis was left with. Not
  exempt, if the owner that wrote it put the session back (readoption brings the checkpoint along): only the very
  last write before the loss is, as its owner may never have heard that it was accepted.
* *Split.* While Redis is two, because an old primary woke up beside its replacement, each may have answered: what
  is seen is compared with what both had in common, and never with what else was seen meanwhile. Who took over at the
  one that is gone comes back to the other under the higher fence: until it has written there, the owner that this one
  knew may write, and numbers may go back to what the newer one brings along.
* *Superseded.* Where a newer process of the same id has appeared, an older one may still start what it was granted.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import isfinite
from typing import TypeVar

from mediaflow.testing.checkers.checkpoints import Checkpoints
from mediaflow.testing.checkers.losses import Records, is_jump, is_split, loss
from mediaflow.testing.checkers.reading import LIVE
from mediaflow.testing.history import AnyHappening, Recorded, Started, Terms, Violation, Wrote


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each write, each grant and each start of a handler."""
    fences, records, checkpoints = _Fences(), Records(terms), Checkpoints()
    found: list[Violation] = []
    for one in history:
        match one:
            case Wrote():
                wrong = [
                    *fences.write(one),
                    *_against(records.newest(one.session_id), one),
                    *checkpoints.write(one),
                ]
            case Recorded():
                wrong = fences.grant(one)
                if records.is_put_back(one):
                    checkpoints.put_back(one)
            case Started():
                wrong = [*fences.start(one), *checkpoints.start(one)]
            case _:
                wrong = []
                checkpoints.take(one)
                fences.suffer(one)
        records.take(one)
        found += [Violation(guarantee="G3", at_s=one.at_s, message=message) for message in wrong]
    return found


def _against(record: Recorded | None, wrote: Wrote) -> list[str]:
    """Compare an accepted write with the record of its session."""
    if record is None:
        return []
    write = f"{wrote.kind} {wrote.number} of {wrote.session_id} by {wrote.instance_id}, fence {wrote.fence},"
    if record.state not in LIVE:
        return [f"{write} was accepted although the session is {record.state}"]
    is_owner = (record.instance_id, record.incarnation) == (wrote.instance_id, wrote.incarnation)
    if not is_owner or record.fence != wrote.fence:
        return [
            f"{write} was accepted although {record.instance_id or 'nobody'} owns it, fence {record.fence}"
        ]
    return []


Seen = TypeVar("Seen")


class _Fences:
    """The fences that were seen so far, with their times: a rollback takes back the latest."""

    def __init__(self) -> None:
        # By session and by call; only the writes that raised the fence, so that the last has the highest.
        self._writes: defaultdict[str, list[Wrote]] = defaultdict(list)
        self._starts: defaultdict[str, list[Started]] = defaultdict(list)
        self._granted: defaultdict[str, list[Recorded]] = defaultdict(list)
        self._known: set[tuple[str, int]] = set()
        self._newest_incarnation: dict[str, int] = {}
        self._lost = self._went_back = self._split = False

    def suffer(self, one: AnyHappening) -> None:
        """Take in a fault."""
        self._split = is_split(one, before=self._split)
        lost = loss(one)
        went_back = is_jump(one, forward=False)
        self._lost, self._went_back = self._lost or bool(lost), self._went_back or went_back
        if self._lost and self._went_back and (lost or went_back):
            self._writes.clear()
            self._starts.clear()
            self._granted.clear()
        elif lost and isfinite(lost.since_s):
            for seen in (*self._writes.values(), *self._starts.values()):
                while seen and seen[-1].at_s > lost.since_s:
                    seen.pop()

    def write(self, one: Wrote) -> list[str]:
        """Compare a write with earlier ones of its session, and of its call while that has no siblings."""
        above: Wrote | None = None
        for key in (f"session {one.session_id}", f"call {one.call_id}"):
            raised = self._writes[key]
            if not raised or raised[-1].fence < one.fence:
                self._remember(raised, one)
            elif raised[-1].fence > one.fence and not (self._lost and key.startswith("call")):
                above = raised[-1]
        if above is None:
            return []
        before = f"{above.instance_id} wrote to {above.session_id} under fence {above.fence}"
        return [
            f"{before}, then a write of {one.instance_id} to {one.session_id} under {one.fence} was accepted"
        ]

    def grant(self, one: Recorded) -> list[str]:
        """Compare a fence that was not there before with all that the call had, but those of the same step."""
        is_new = one.fence > 0 and (one.session_id, one.fence) not in self._known
        self._known.add((one.session_id, one.fence))
        self._see(one.instance_id, one.incarnation)
        if not is_new:
            return []
        above = next((grant for grant in self._granted[one.call_id] if _is_above(grant, one)), None)
        self._remember(self._granted[one.call_id], one)
        if above is None:
            return []
        return [f"{one.session_id} was given fence {one.fence} after {above.session_id} had {above.fence}"]

    def start(self, one: Started) -> list[str]:
        """Compare the fence of a start with those of other owners of the session."""
        self._see(one.instance_id, one.incarnation)
        others = [start for start in self._starts[one.session_id] if not _same(start, one)]
        self._remember(self._starts[one.session_id], one)
        above = next((start for start in others if start.fence >= one.fence), None)
        if above is None or self._newest_incarnation[one.instance_id] > one.incarnation:
            return []
        before = f"{above.instance_id} had started {one.session_id} under fence {above.fence}"
        return [f"{before} when {one.instance_id} started it under {one.fence}"]

    def _remember(self, seen: list[Seen], one: Seen) -> None:
        if not self._split:
            seen.append(one)

    def _see(self, instance_id: str, incarnation: int) -> None:
        newest = self._newest_incarnation.get(instance_id, 0)
        self._newest_incarnation[instance_id] = max(newest, incarnation)


def _is_above(grant: Recorded, one: Recorded) -> bool:
    same_step = grant.at_s == one.at_s and grant.script == one.script and grant.session_id != one.session_id
    return grant.fence >= one.fence and not same_step


def _same(one: Started, other: Started) -> bool:
    return (one.instance_id, one.incarnation) == (other.instance_id, other.incarnation)
