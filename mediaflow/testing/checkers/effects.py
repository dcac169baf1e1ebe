"""Effects: who has just been told by ``session.check()`` that the lease is its own has the session to itself.

Demanded: no effect right after a check happens once a newer owner of that session is recorded, or has started. An
owner's deadline lies before the moment at which Redis may give the session away, so no slack is needed.

A clock of Redis that jumps is no exemption as such: a jump moves lease time by the cap at most, once, and the
owner's deadline gives that away; a frozen Redis only makes leases last longer.

Exempt:

* within a lease after data was lost: the confirmation that the owner relies on may have been lost with it, and an
  older owner may have been there first to put the session back, or a rolled back record be given to another;
* within a lease after an owner has come back under a fence that it had before, once Redis has both lost data and seen
  its clock go back, in either order: the fence that an older owner was put back with may be the lower one then (see
  :mod:`.fences`), so that the newer one may have the session at once, whenever it is heard of again. Not exempt is
  an owner that was given the session since: it has had to wait for the lease;
* within a lease after a second jump forward: each moves lease time by the cap, and only one is given away;
* a process of whose id a newer one has appeared: it is held to be dead, and what it owned moves at once.

``overlapping`` also returns the effects that no check preceded. Nothing is promised for them: they are what users
look for in their own handlers.
"""

from collections import defaultdict
from collections.abc import Sequence

from mediaflow.testing.checkers.losses import is_jump, loss
from mediaflow.testing.checkers.reading import FOREVER, ROUNDING_S
from mediaflow.testing.history import AnyHappening, Effect, Recorded, Started, Terms, Violation

Claim = Recorded | Started


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each effect right after a check."""
    return [
        Violation(guarantee="effect", at_s=effect.at_s, message=_sentence(effect, newer))
        for effect, newer in overlapping(history, terms)
        if effect.checked
    ]


def overlapping(history: Sequence[AnyHappening], terms: Terms) -> list[tuple[Effect, Claim]]:
    """Return each effect that happened, without an excuse, after another owner had the session; with that claim."""
    claims: defaultdict[str, list[Claim]] = defaultdict(list)
    newest_incarnation: dict[str, int] = {}
    incarnation_of: dict[tuple[str, str], int] = {}
    lost_s: list[float] = []
    jumped_s: list[float] = []
    returning = _Returning()
    found: list[tuple[Effect, Claim]] = []
    for one in history:
        returning.take(one)
        if isinstance(one, Recorded | Started):
            newest = newest_incarnation.get(one.instance_id, 0)
            newest_incarnation[one.instance_id] = max(newest, one.incarnation)
            if isinstance(one, Started) or one.state == "active":
                incarnation_of[one.session_id, one.instance_id] = one.incarnation
                claims[one.session_id].append(one)
        elif lost := loss(one):
            lost_s.append(one.at_s)
            for those in claims.values():
                those[:] = [claim for claim in those if claim.at_s <= lost.since_s]
        elif is_jump(one, forward=True):
            jumped_s.append(one.at_s)
        elif isinstance(one, Effect):
            since_s = one.at_s - terms.lease_ttl_s - ROUNDING_S
            excused = any(at_s >= since_s for at_s in lost_s) or sum(at_s >= since_s for at_s in jumped_s) > 1
            newer = _newer_claim(one, claims[one.session_id])
            newest = newest_incarnation.get(one.instance_id, 0)
            superseded = incarnation_of.get((one.session_id, one.instance_id), newest) < newest
            excused = excused or (
                newer is not None and newer.at_s >= since_s and returning.covers(one, newer)
            )
            if newer and not excused and not superseded:
                found.append((one, newer))
    return found


class _Returning:
    """Who had which fence when the later of the two faults came that together may put fences out of order."""

    def __init__(self) -> None:
        # By session, instance and incarnation: the highest fence, and the highest of before the last such fault.
        self._highest: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._before: dict[tuple[str, str, int], int] = {}
        self._lost = self._went_back = False
        self._since_s = FOREVER

    def take(self, one: AnyHappening) -> None:
        """Take in the next happening."""
        if isinstance(one, Started) or (isinstance(one, Recorded) and one.state == "active"):
            self._highest[_owner(one)] = max(self._highest[_owner(one)], one.fence)
            return
        lost, went_back = loss(one) is not None, is_jump(one, forward=False)
        self._lost, self._went_back = self._lost or lost, self._went_back or went_back
        if self._lost and self._went_back and (lost or went_back):
            self._before, self._since_s = dict(self._highest), one.at_s

    def covers(self, effect: Effect, newer: Claim) -> bool:
        """Tell whether the newer owner only came back, under a fence above that of the effect."""
        came_back = isinstance(newer, Started) or newer.script in ("renew", "readopt")
        return came_back and newer.at_s >= self._since_s and self._before.get(_owner(newer), 0) > effect.fence


def _owner(claim: Claim) -> tuple[str, str, int]:
    return claim.session_id, claim.instance_id, claim.incarnation


def _newer_claim(effect: Effect, claims: Sequence[Claim]) -> Claim | None:
    others = (claim for claim in claims if claim.instance_id not in (effect.instance_id, ""))
    return next((claim for claim in others if claim.fence > effect.fence), None)


def _sentence(effect: Effect, newer: Claim) -> str:
    what = f" ({effect.what})" if effect.what else ""
    who = f"{effect.instance_id}, fence {effect.fence}, had an effect{what} on {effect.session_id}"
    return f"{who} when {newer.instance_id} had it since {newer.at_s:.3f}, fence {newer.fence}"
