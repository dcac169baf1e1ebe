"""Writes the history of a simulated run: what the cluster tells it, and what it sees happen in Redis."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from mediaflow.store import scripts
from mediaflow.store.keys import Keyspace
from mediaflow.testing.history import AnyHappening, Recorded, Wrote
from mediaflow.testing.loop import START_S, VirtualLoop
from mediaflow.testing.server import Engine, SimulatedRedis, read_hash


class Record(NamedTuple):
    """An ownership record, as the scripts write it (lua/_records.lua)."""

    state: str
    owner: str
    incarnation: int
    rank: str
    fence: int
    accepted: bool


class Recorder:
    """The history so far. ``sealed``: nothing is added any more."""

    def __init__(self, loop: VirtualLoop, redis: SimulatedRedis, keyspace: Keyspace) -> None:
        """Watch a server."""
        self.history: list[AnyHappening] = []
        self.sealed = False
        self._loop = loop
        self._engine: Engine = redis.engine
        self._keyspace = keyspace
        self._known: dict[str, dict[str, Record]] = {}
        self._expiries_ms: dict[tuple[str, str], float] = {}
        self._numbers: dict[tuple[str, str], bytes | None] = {}
        self._values: dict[tuple[str, bytes], int] = {}
        redis.on_applied = self._on_applied

    def now_s(self) -> float:
        """Return seconds since the run began."""
        return round(self._loop.time() - START_S, 6)

    def add(self, happening: AnyHappening) -> None:
        """Add what happened."""
        if not self.sealed:
            self.history.append(happening)

    def number_of(self, session_id: str, checkpoint: Any) -> int | None:
        """Return the number under which a checkpoint was stored; of equal ones the last."""
        return self._values.get((session_id, msgspec.json.encode(checkpoint)))

    def look_again(self, script: str) -> None:
        """Note how all records are, after Redis lost or changed some behind everybody's back."""
        there = {key.decode().rpartition(":call:")[2] for key in self._engine.all_keys() if b":call:" in key}
        for call_id in sorted(there | self._known.keys()):
            self._note(call_id, script)
        for session_id, kind in self._numbers:
            key = self._keyspace.session(int(session_id.split("-")[1]), session_id)
            self._numbers[session_id, kind] = self._stored_number(key, kind)

    def _look_at_numbers(self, key: str) -> None:
        """Take in how far the writes of a session have come, which has been put back with them."""
        _, found, session_id = key.rpartition(":session:")
        if found:
            for kind in ("checkpoint", "details"):
                self._numbers[session_id, kind] = self._stored_number(key, kind)

    def _stored_number(self, key: str, kind: str) -> bytes | None:
        return self._engine.execute(("HGET", key, f"{kind}_number"))

    def _on_applied(self, words: Sequence[Any]) -> None:
        if words[0] not in ("EVAL", "EVALSHA"):
            return
        keys = words[3 : 3 + int(words[2])]
        arguments = words[3 + int(words[2]) :]
        script = _names_of_scripts().get(str(words[1]), "")
        # KEYS partition call session, ARGV partition field call session instance incarnation fence number value
        if script == "write":
            self._note_write(str(keys[-1]), arguments[5:12], arguments[12])
            return
        for key in keys:
            _, found, call_id = str(key).rpartition(":call:")
            if found:
                self._note(call_id, script)
            if script == "readopt":
                self._look_at_numbers(str(key))

    def _note_write(self, session_key: str, arguments: Sequence[Any], value: Any) -> None:
        """Add a write, unless it came late and changed nothing."""
        kind, call_id, session_id, instance_id, incarnation, fence, number = map(str, arguments)
        stored = self._stored_number(session_key, kind)
        before, self._numbers[session_id, kind] = self._numbers.get((session_id, kind)), stored
        if stored == number.encode() and stored != before:
            self._values[session_id, bytes(value)] = int(number)
            self.add(
                Wrote(
                    at_s=self.now_s(),
                    call_id=call_id,
                    session_id=session_id,
                    instance_id=instance_id,
                    incarnation=int(incarnation),
                    fence=int(fence),
                    number=int(number),
                    kind=kind,
                )
            )

    def _note(self, call_id: str, script: str) -> None:
        """Add the records of a call if one of them has changed: those that have not come first."""
        found, before = self._read(call_id), self._known.get(call_id, {})
        if found != before:
            self._known[call_id] = found
            for changed in (False, True):
                for session_id in sorted(found.keys() | before.keys()):
                    record = found.get(session_id)
                    if (record != before.get(session_id)) == changed:
                        self.add(self._recorded(call_id, session_id, record, script))
        for session_id in found:
            self._expiries_ms[call_id, session_id] = self._lease_expiry_ms(call_id, session_id)

    def _recorded(self, call_id: str, session_id: str, record: Record | None, script: str) -> Recorded:
        now_ms = self._lease_clock_ms(call_id)
        before_ms = self._expiries_ms.get((call_id, session_id), 0.0)
        if record is None:
            record = Record("forgotten", "", 0, "", 0, False)
        return Recorded(
            at_s=self.now_s(),
            call_id=call_id,
            session_id=session_id,
            state=record.state,
            instance_id=record.owner,
            incarnation=record.incarnation,
            fence=record.fence,
            accepted=record.accepted,
            rank=record.rank,
            lease_s=max(0.0, (self._lease_expiry_ms(call_id, session_id) - now_ms) / 1000),
            lease_before_s=max(0.0, (before_ms - now_ms) / 1000),
            script=script,
        )

    def _read(self, call_id: str) -> dict[str, Record]:
        partition = self._keyspace.partition_of(call_id)
        fields = read_hash(self._engine, self._keyspace.call(partition, call_id))
        return {name[2:]: _parse(text) for name, text in fields.items() if name.startswith("s:")}

    def _lease_expiry_ms(self, call_id: str, session_id: str) -> float:
        _, leases, *_ = self._keyspace.partition(self._keyspace.partition_of(call_id))
        expiry_ms = self._engine.execute(("ZSCORE", leases, f"{call_id}/{session_id}"))
        return 0.0 if expiry_ms is None else float(expiry_ms)

    def _lease_clock_ms(self, call_id: str) -> float:
        clock, *_ = self._keyspace.partition(self._keyspace.partition_of(call_id))
        now_ms = self._engine.execute(("HGET", clock, "lease_ms"))
        return math.inf if now_ms is None else float(now_ms)


@functools.cache
def _names_of_scripts() -> dict[str, str]:
    """Return the name of each script by all that it can be called by."""
    known = [scripts.load(name) for name in scripts.names()]
    return {
        called: script.name
        for script in known
        for called in (script.plain, script.plain_sha, script.flagged, script.flagged_sha)
    }


def _parse(text: str) -> Record:
    state, owner, incarnation, rank, fence, accepted, _ended_ms = text.split("|")
    return Record(state, owner, int(incarnation), rank, int(fence), accepted == "1")
