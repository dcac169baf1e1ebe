"""G2: a 2xx means that the call will be assigned, and one idempotency key never makes two sessions.

Demanded:

* a call, and a session of it, that a client was told of with a 2xx is known to Redis at the end (no run lasts as
  long as the retention), and no live session is forgotten by a Redis that lost nothing;
* all 2xx answers to one key of a call name one session;
* a call never has more sessions than keys that asked for it (a request without a key counts as one of its own);
* no session comes about while another of its call is live.

Exempt, each because Redis lost it and no living process holds it:

* a session that may have been made within what a loss covers. If a process ran it, G7 demands it back;
* a key that was first answered within what a loss covers: another session may be made for it. Not exempt, if it made
  a session that was put back before it was asked for again: who puts a session back brings its key along;
* what has ended, and its key, once the clock of Redis jumped by the retention or more: then that is over;
* after any of these, counting sessions by keys, and by what is live: what is put back meets what was made meanwhile,
  and G4 judges how they converge.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from mediaflow.testing.checkers.losses import Loss, Records, loss, losses, outlasts_retention
from mediaflow.testing.checkers.reading import FOREVER, LIVE, TERMINAL, every, final, succeeded
from mediaflow.testing.history import Answered, AnyHappening, Recorded, Submitted, Terms, Violation


class Exchange(NamedTuple):
    """A request that was answered by a 2xx."""

    asked: Submitted
    answered: Answered


def check(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge what clients were told."""
    requests = {one.request: one for one in every(history, Submitted)}
    exchanges = [
        Exchange(requests[one.request], one)
        for one in every(history, Answered)
        if succeeded(one.status) and one.request in requests
    ]
    return [
        *_lost(history, exchanges, terms),
        *_keys_with_two(history, exchanges, terms),
        *_uncalled_for(history, terms),
    ]


def _violation(at_s: float, message: str) -> Violation:
    return Violation(guarantee="G2", at_s=at_s, message=message)


def _lost(history: Sequence[AnyHappening], exchanges: Sequence[Exchange], terms: Terms) -> list[Violation]:
    end = final(history)
    if end is None:
        return []
    first: dict[tuple[str, str], Exchange] = {}
    for one in exchanges:
        first.setdefault((one.asked.call_id, one.answered.session_id), one)
    found: list[Violation] = []
    for (call_id, session_id), exchange in first.items():
        known = {session.session_id for session in end.calls.get(call_id, ())}
        if call_id in end.calls and (not session_id or session_id in known):
            continue
        if not _may_be_lost(history, exchange, terms):
            told = f"{exchange.answered.status} with session {session_id}"
            found.append(
                _violation(exchange.answered.at_s, f"call {call_id} was answered {told}: it is lost")
            )
    return found


def _may_be_lost(history: Sequence[AnyHappening], exchange: Exchange, terms: Terms) -> bool:
    session_id = exchange.answered.session_id
    if not any(one.session_id == session_id for one in every(history, Recorded)):
        return any(_covers(one, exchange) for one in losses(history))
    records = Records(terms)
    is_lost, lost_s = False, FOREVER
    for one in history:
        before = records.newest(session_id)
        records.take(one)
        if loss(one) or outlasts_retention(one, terms):
            lost_s = one.at_s
            is_lost = is_lost or (before is not None and records.newest(session_id) is None)
        elif isinstance(one, Recorded) and one.session_id == session_id:
            is_lost = one.state == "forgotten" and (is_lost or one.at_s == lost_s)
    return is_lost


def _covers(lost: Loss, exchange: Exchange) -> bool:
    return lost.may_cover(exchange.asked.at_s, exchange.answered.at_s)


def _keys_with_two(
    history: Sequence[AnyHappening], exchanges: Sequence[Exchange], terms: Terms
) -> list[Violation]:
    found: list[Violation] = []
    by_key: defaultdict[tuple[str, str], dict[str, Exchange]] = defaultdict(dict)
    for one in exchanges:
        if one.asked.key and one.answered.session_id:
            by_key[one.asked.call_id, one.asked.key].setdefault(one.answered.session_id, one)
    for (call_id, key), firsts in by_key.items():
        for earlier, later in pairwise(firsts.values()):
            if not _key_may_be_lost(history, earlier, later, terms):
                both = f"{earlier.answered.session_id} and {later.answered.session_id}"
                message = f"key {key} of call {call_id} was answered with sessions {both}"
                found.append(_violation(later.answered.at_s, message))
    return found


def _key_may_be_lost(
    history: Sequence[AnyHappening], earlier: Exchange, later: Exchange, terms: Terms
) -> bool:
    """Follow what Redis knew of the first session until the second came about.

    One that was there before the first answer was not made by the repeated request: its owner has put it back.
    """
    first_id, second_id = earlier.answered.session_id, later.answered.session_id
    came_s = next((one.at_s for one in every(history, Recorded) if one.session_id == second_id), None)
    if came_s is not None and came_s < earlier.answered.at_s and losses(history):
        return True
    records = Records(terms)
    lost = False
    for one in history:
        if (isinstance(one, Recorded) and one.session_id == second_id) or one is later.answered:
            break
        if isinstance(one, Recorded) and one.session_id == first_id and records.is_put_back(one):
            lost = lost and not earlier.answered.created
        record = records.newest(first_id)
        has_ended = record is None or record.state in TERMINAL
        lost = lost or (outlasts_retention(one, terms) and has_ended)
        if (found := loss(one)) and _covers(found, earlier):
            lost = True
        records.take(one)
    return lost


def _uncalled_for(history: Sequence[AnyHappening], terms: Terms) -> list[Violation]:
    """Judge each session by what Redis held when it came about, until Redis loses something."""
    found: list[Violation] = []
    records = Records(terms)
    asked: defaultdict[str, set[str]] = defaultdict(set)
    made: defaultdict[str, set[str]] = defaultdict(set)
    for one in history:
        if loss(one) or outlasts_retention(one, terms):
            break
        if isinstance(one, Submitted):
            asked[one.call_id].add(one.key or f"request {one.request}")
        if isinstance(one, Recorded):
            found += _judge_record(one, records, asked[one.call_id], made[one.call_id])
        records.take(one)
    return found


def _judge_record(one: Recorded, records: Records, asked: set[str], made: set[str]) -> Iterator[Violation]:
    before = records.newest(one.session_id)
    if one.state == "forgotten" and before and before.state in LIVE:
        what = f"{one.session_id} was {before.state}"
        yield _violation(one.at_s, f"{what}, and is forgotten by a Redis that lost nothing")
    if one.state not in LIVE or one.session_id in made:
        return
    made.add(one.session_id)
    if asked and len(made) > len(asked):
        yield _violation(one.at_s, f"call {one.call_id} has {len(made)} sessions for {len(asked)} keys")
    live = [
        other.session_id for other in records.siblings(one.call_id, one.session_id) if other.state in LIVE
    ]
    if live:
        yield _violation(
            one.at_s, f"{one.session_id} of call {one.call_id} came about while {live[0]} was live"
        )
