"""What each session has saved, as far as Redis must still know it: a part of G3, see :mod:`.fences`."""

from collections import defaultdict
from typing import NamedTuple

from msgspec import structs

from mediaflow.testing.checkers.losses import Loss, is_split, loss
from mediaflow.testing.history import AnyHappening, Recorded, Started, Stopped, Wrote

Owner = tuple[str, int]
CHECKPOINT = "checkpoint"


class _Held(NamedTuple):
    """What the owner that wrote it surely knew to be saved when Redis lost it."""

    owner: Owner
    wrote: Wrote


class Checkpoints:
    """Follows the accepted writes of a run; its methods return what is wrong, in sentences."""

    def __init__(self) -> None:
        """Begin with nothing saved."""
        # By session and kind; only the writes that raised the number, so that the last has the highest.
        self._writes: defaultdict[tuple[str, str], list[Wrote]] = defaultdict(list)
        self._held: dict[str, _Held] = {}
        self._stopped: dict[tuple[str, Owner], float] = {}
        self._split = False
        self._one_again_s = 0.0
        self._began_apart: set[tuple[str, Owner]] = set()

    def take(self, one: AnyHappening) -> None:
        """Take in what is neither a write nor a start."""
        was_split, self._split = self._split, is_split(one, before=self._split)
        if was_split and not self._split:
            self._one_again_s = one.at_s
        if isinstance(one, Stopped):
            self._stopped[one.session_id, (one.instance_id, one.incarnation)] = one.at_s
        elif lost := loss(one):
            for (session_id, kind), saved in self._writes.items():
                if kind == CHECKPOINT:
                    self._hold(session_id, saved, lost)
                saved[:] = [write for write in saved if write.at_s <= lost.since_s]

    def _hold(self, session_id: str, saved: list[Wrote], lost: Loss) -> None:
        """Remember what the writer of the last checkpoint still holds of what the loss covers."""
        if len(saved) > 1 and saved[-1].at_s > lost.since_s:
            self._held[session_id] = _Held(_owner(saved[-1]), saved[-2])

    def put_back(self, one: Recorded) -> None:
        """Take in that a session was put back: who wrote the last checkpoint brings that along."""
        held = self._held.get(one.session_id)
        if held and held.owner == (one.instance_id, one.incarnation):
            self._raise(structs.replace(held.wrote, at_s=one.at_s))

    def write(self, one: Wrote) -> list[str]:
        """Compare the number of a write with those before."""
        if not self._split and (one.session_id, _owner(one)) in self._began_apart:
            self._began_apart.discard((one.session_id, _owner(one)))
            self._supersede(one)
        highest = self._raise(one)
        if one.kind == CHECKPOINT:
            self._held.pop(one.session_id, None)
        if highest <= one.number:
            return []
        return [f"{one.kind} {one.number} of {one.session_id} was stored over number {highest}"]

    def _supersede(self, one: Wrote) -> None:
        """Take in the first write of an owner who took over while Redis was two: those under lower fences were late."""
        saved = self._writes[one.session_id, one.kind]
        saved[:] = [write for write in saved if write.at_s < self._one_again_s or write.fence >= one.fence]

    def _raise(self, one: Wrote) -> int:
        saved = self._writes[one.session_id, one.kind]
        if self._split:
            return saved[-1].number if saved else one.number
        if not saved or saved[-1].number < one.number:
            saved.append(one)
        return saved[-1].number

    def start(self, one: Started) -> list[str]:
        """Compare what a handler resumes from with what was saved."""
        here = one.instance_id, one.incarnation
        if self._split:
            self._began_apart.add((one.session_id, here))
        read_s = self._stopped.get((one.session_id, here), one.at_s)
        saved = [
            write.number
            for write in self._writes[one.session_id, CHECKPOINT]
            if _owner(write) != here or write.at_s <= read_s
        ]
        if not saved or (one.resumed is not None and one.resumed >= saved[-1]):
            return []
        return [
            f"{one.session_id} resumes on {one.instance_id} from {one.resumed}, but {saved[-1]} was saved"
        ]


def _owner(wrote: Wrote) -> Owner:
    return wrote.instance_id, wrote.incarnation
