"""What Redis holds at the end of a run, and whether each key of it belongs to something."""

import re

from mediaflow.store.keys import Keyspace
from mediaflow.testing.history import FinalSession
from mediaflow.testing.server import Engine, read_hash

LIVE = ("active", "pending")


class Audit:
    """One look at a server, at rest."""

    def __init__(self, engine: Engine, keyspace: Keyspace) -> None:
        """Read all calls."""
        self._engine = engine
        self._keyspace = keyspace
        self._keys = [key.decode() for key in engine.all_keys()]
        calls = sorted(key.rpartition(":call:")[2] for key in self._keys if ":call:" in key)
        self.records = {call_id: self._records(call_id) for call_id in calls}

    def final_calls(self, running_on: dict[str, tuple[str, ...]]) -> dict[str, tuple[FinalSession, ...]]:
        """Return the sessions of each call; ``running_on``: instances that run a session, by its id."""
        return {
            call_id: tuple(
                FinalSession(
                    session_id=session_id,
                    state=state,
                    instance_id=owner,
                    fence=int(fence),
                    running_on=running_on.get(session_id, ()),
                )
                for session_id, (state, owner, _, _, fence, *_) in sorted(records.items())
            )
            for call_id, records in self.records.items()
        }

    def strays(self) -> tuple[str, ...]:
        """Return the keys, and members of indexes, that belong to nothing and will not go away by themselves."""
        return tuple(
            [
                key
                for key in self._keys
                if not self._belongs(key) and self._engine.execute(("PTTL", key)) == -1
            ]
            + [
                stray
                for partition in range(self._keyspace.partitions)
                for stray in self._stray_members(partition)
            ]
        )

    def _belongs(self, key: str) -> bool:
        found = re.fullmatch(r".*:(call|session|idempotency|owned):(.*)", key)
        if found is None:
            return True  # of the namespace, a partition or the registry: there for ever
        kind, name = found.groups()
        match kind:
            case "session":
                return any(name in records for records in self.records.values())
            case "owned":
                return False  # it has an expiry, or is empty and gone
            case _:
                return name in self.records

    def _stray_members(self, partition: int) -> list[str]:
        _, leases, pending, calls, _, _, held = self._keyspace.partition(partition)
        strays: list[str] = []
        for key, state in ((leases, "active"), (pending, "pending")):
            for member in self._engine.execute(("ZRANGE", key, 0, -1)):
                call_id, _, session_id = member.decode().partition("/")
                record = self.records.get(call_id, {}).get(session_id)
                if record is None or record[0] != state:
                    strays.append(f"{key} names {member.decode()}")
        for member, claim in read_hash(self._engine, held).items():
            call_id, _, session_id = member.partition("/")
            state, owner, incarnation, _, fence, *_ = self.records.get(call_id, {}).get(session_id, [""] * 7)
            if state != "active" or claim != f"{owner}|{incarnation}|{fence}":
                strays.append(f"{held} names {member}, held as {claim}")
        indexed = {member.decode() for member in self._engine.execute(("ZRANGE", calls, 0, -1))}
        strays.extend(
            f"{calls} lacks {call_id}"
            for call_id in self.records
            if self._keyspace.partition_of(call_id) == partition and call_id not in indexed
        )
        return strays

    def _records(self, call_id: str) -> dict[str, list[str]]:
        key = self._keyspace.call(self._keyspace.partition_of(call_id), call_id)
        fields = read_hash(self._engine, key)
        return {name[2:]: text.split("|") for name, text in fields.items() if name.startswith("s:")}
