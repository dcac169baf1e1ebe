"""Is what lies in Redis legal, also after a script was cut off in the middle? And what does it come to?

Legal means: nothing live is lost (an index leads to it, nothing will expire under it), no fence is above
its call's, and whatever is half done is named by an index that a sweep or an assignment follows.
Settled means: they have been there, and nothing half done is left.
"""

import time
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from harness.laboratory import Laboratory, Record, parse_record
from mediaflow.core import names
from mediaflow.store import Claim, Grant, Owner

LIVE = ("active", "pending")

RESCUER = Owner("rescuer", 1, names.rank(9_000, "rescuer"))


class Picture:
    """All that lies in Redis, read in three round trips; asked by the names of the commands it stands for."""

    _READS: ClassVar = {b"hash": "hgetall", b"zset": "zrange", b"set": "smembers"}

    def __init__(self, raw: Any) -> None:
        keys = raw.keys("*")
        with raw.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.type(key)
                pipeline.pttl(key)
            kinds = pipeline.execute()
        self._ttl_ms = dict(zip(keys, kinds[1::2], strict=True))
        read = [
            (key, self._READS[kind])
            for key, kind in zip(keys, kinds[::2], strict=True)
            if kind in self._READS
        ]
        with raw.pipeline(transaction=False) as pipeline:
            for key, command in read:
                getattr(pipeline, command)(key, *((0, -1) if command == "zrange" else ()))
            self._values = dict(zip((key for key, _ in read), pipeline.execute(), strict=True))

    def keys(self, prefix: str) -> list[bytes]:
        return sorted(key for key in self._ttl_ms if key.startswith(prefix.encode()))

    def pttl(self, key: str | bytes) -> int:
        return self._ttl_ms.get(_encoded(key), -2)

    def fields(self, key: str | bytes) -> dict[bytes, bytes]:
        return self._values.get(_encoded(key), {})

    def members(self, key: str | bytes) -> list[bytes]:
        return sorted(self._values.get(_encoded(key), ()))

    def has(self, key: str | bytes, member: str | bytes) -> bool:
        return _encoded(member) in self._values.get(_encoded(key), ())


def _encoded(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


class StoredCall(NamedTuple):
    """A call's hash, taken apart."""

    partition: int
    call_id: str
    fence: int
    records: dict[str, Record]


def stored_calls(lab: Laboratory, picture: Picture | None = None) -> list[StoredCall]:
    picture = picture or Picture(lab.raw)
    found: list[StoredCall] = []
    for number in range(lab.store.partitions):
        prefix = lab.keys.call(number, "")
        for key in picture.keys(prefix):
            fields = picture.fields(key)
            records = {
                name.decode()[2:]: parse_record(text)
                for name, text in fields.items()
                if name.startswith(b"s:")
            }
            call_id = key.decode().removeprefix(prefix)
            found.append(StoredCall(number, call_id, int(fields.get(b"fence", 0)), records))
    return found


def problems(lab: Laboratory, *, settled: bool = False) -> list[str]:
    """Return in words all that is illegal."""
    picture = Picture(lab.raw)
    found: list[str] = []
    for call in stored_calls(lab, picture):
        found += _call_problems(lab, picture, call, settled=settled)
    for number in range(lab.store.partitions):
        found += _partition_problems(lab, picture, number, settled=settled)
    return found + _registry_problems(lab, picture)


def _call_problems(lab: Laboratory, picture: Picture, call: StoredCall, *, settled: bool) -> list[str]:
    found: list[str] = []
    _, leases, pending, calls, ended, *_ = lab.keys.partition(call.partition)
    alive = [name for name, record in call.records.items() if record.state in LIVE]
    named: set[str] = set()
    for session_id, record in call.records.items():
        about = f"{call.call_id}/{session_id} ({record.state})"
        session_key = lab.keys.session(call.partition, session_id)
        member = f"{call.call_id}/{session_id}"
        in_leases = picture.has(leases, member)
        in_pending = picture.has(pending, member)
        if in_leases or in_pending:
            named.add(session_id)
        if record.fence > call.fence:
            found.append(f"{about}: fence {record.fence} is above its call's, {call.fence}")
        if record.state == "active" and not in_leases:
            found.append(f"{about}: no lease will ever lapse")
        if record.state == "active" and not picture.has(lab.keys.owned(call.partition, record.owner), member):
            found.append(f"{about}: not found when its owner {record.owner} dies")
        if record.state == "pending" and not in_pending:
            found.append(f"{about}: nobody will ever assign it")
        ttl_ms = picture.pttl(session_key)
        if record.state in LIVE and ttl_ms != -1:
            found.append(f"{about}: what it needs is gone or will expire ({ttl_ms} ms)")
        if record.state not in LIVE and ttl_ms == -1 and session_id not in named:
            found.append(f"{about}: its tombstone never expires")
        if settled and record.state not in LIVE and session_id in named:
            found.append(f"{about}: an index still names it")
        if settled and record.state == "active" and in_pending:
            found.append(f"{about}: still an index of pending sessions names it")
    keys = [
        lab.keys.call(call.partition, call.call_id),
        lab.keys.idempotency(call.partition, call.call_id),
    ]
    if alive:
        found += [f"{key} will expire under a live call" for key in keys if picture.pttl(key) >= 0]
        if not picture.has(calls, call.call_id):
            found.append(f"{call.call_id}: live, but not listed")
        if picture.has(ended, call.call_id) and (settled or not named):
            found.append(f"{call.call_id}: live, but will be dropped from the list")
    elif not _is_indexed(lab, picture, call):
        found += [f"{key} never expires" for key in keys if picture.pttl(key) == -1]
        if picture.has(calls, call.call_id) and not picture.has(ended, call.call_id):
            found.append(f"{call.call_id}: ended, but listed for ever")
    return found


def _misstatements(lab: Laboratory, picture: Picture, number: int, calls: Sequence[StoredCall]) -> list[str]:
    """Who is said to hold a session alone has to be borne out by its record."""
    borne_out: dict[bytes, bytes] = {}
    for call in calls:
        alive = {name: record for name, record in call.records.items() if record.state in LIVE}
        for session_id, record in alive.items():
            if (
                len(alive) == 1
                and record.state == "active"
                and record.accepted
                and record.fence >= call.fence
            ):
                claim = f"{record.owner}|{record.incarnation}|{record.fence}"
                borne_out[f"{call.call_id}/{session_id}".encode()] = claim.encode()
    return [
        f"{member.decode()}: said to be held as {claim.decode()}, which its record does not bear out"
        for member, claim in picture.fields(lab.keys.partition(number)[6]).items()
        if borne_out.get(member) != claim
    ]


def _is_indexed(lab: Laboratory, picture: Picture, call: StoredCall) -> bool:
    """Tell whether a sweep or an assignment will come by, also for a session that has no record yet."""
    prefix = f"{call.call_id}/".encode()
    return any(
        member.startswith(prefix)
        for key in lab.keys.partition(call.partition)[1:3]
        for member in picture.members(key)
    )


def _partition_problems(lab: Laboratory, picture: Picture, number: int, *, settled: bool) -> list[str]:
    found: list[str] = []
    _, leases, pending, calls, ended, *_ = lab.keys.partition(number)
    stored = [call for call in stored_calls(lab, picture) if call.partition == number]
    found += _misstatements(lab, picture, number, stored)
    known = {call.call_id: call.records for call in stored}
    sessions = {session_id for records in known.values() for session_id in records}
    indexed = {member.decode() for key in (leases, pending) for member in picture.members(key)}
    indexed_sessions = {member.rpartition("/")[2] for member in indexed}
    prefix = lab.keys.session(number, "")
    for key in picture.keys(prefix):
        session_id = key.decode().removeprefix(prefix)
        if session_id not in sessions and session_id not in indexed_sessions and picture.pttl(key) == -1:
            found.append(f"{key.decode()} belongs to no record and never expires")
    for call_id in (name.decode() for name in picture.members(calls)):
        leads_on = any(member.startswith(f"{call_id}/") for member in indexed)
        if call_id not in known and not picture.has(ended, call_id) and not leads_on:
            found.append(f"{call_id}: listed for ever, but not there")
    if settled:
        for member in sorted(indexed):
            call_id, _, session_id = member.rpartition("/")
            if session_id not in known.get(call_id, {}):
                found.append(f"{member}: an index names what is not there")
    return found


def _registry_problems(lab: Laboratory, picture: Picture) -> list[str]:
    _, instances, records, _ = lab.keys.registry
    return [
        f"instance {name.decode()}: its heartbeat never expires"
        for name in picture.members(records)
        if not picture.has(instances, name)
    ]


def outcome(lab: Laboratory, *, settled: bool = False) -> dict[str, Any]:
    """Return what matters to users of all calls and instances: no times, no fences, no owner of the ownerless.

    Settled, that comes with what will be forgotten. Tombstones that outlived the retention do not matter.
    """
    picture = Picture(lab.raw)
    shown: dict[str, Any] = {}
    for call in stored_calls(lab, picture):
        for session_id, record in call.records.items():
            if 0 < record.ended_ms < time.time() * 1000 - lab.settings.retention * 1000:
                continue
            kept = picture.fields(lab.keys.session(call.partition, session_id))
            names = (
                b"metadata",
                b"checkpoint",
                b"details",
                b"failures",
                b"short_runs",
                b"winner",
                b"end_reason",
                b"trace",
            )
            shown[f"{call.call_id}/{session_id}"] = (
                record.state,
                record.owner if record.state == "active" else "",
                record.accepted if record.state == "active" else False,
                tuple(kept.get(name, b"") for name in names),
            )
        answers = picture.fields(lab.keys.idempotency(call.partition, call.call_id))
        shown[f"{call.call_id} answers"] = {field: text.split(b"|")[1] for field, text in answers.items()}
        if settled:
            indexes = lab.keys.partition(call.partition)[3:5]
            shown[f"{call.call_id} listed"] = [picture.has(key, call.call_id) for key in indexes]
            shown[f"{call.call_id} expires"] = picture.pttl(lab.keys.call(call.partition, call.call_id)) > 0
    shown["instances"] = {
        name: text.split(b"|")[2:] for name, text in picture.fields(lab.keys.registry[2]).items()
    }
    return shown


async def settle(lab: Laboratory) -> None:
    """Do the watchdog's rounds after all owners fell silent, with an instance that takes everything."""
    for index in lab.keys.partition(0)[1:3]:
        for member in lab.raw.zrange(index, 0, -1):
            lab.raw.zadd(index, {member: 1})
    for _ in range(3):
        (view,) = await lab.store.tick()
        await lab.store.sweep(0, view.expired)
        (view,) = await lab.store.tick()
        grants = [Grant(waiting.ref, RESCUER) for waiting in view.waiting]
        statuses = await lab.store.assign(0, grants, f"rescue-{time.monotonic_ns()}")
        for grant, status in zip(grants, statuses, strict=True):
            if status == "assigned":
                call = next(call for call in stored_calls(lab) if call.call_id == grant.ref.call_id)
                offered = Claim(*grant.ref, call.records[grant.ref.session_id].fence)
                assert (await lab.store.accept(RESCUER, offered)).status == "accepted"
                await lab.store.renew(RESCUER, offered)
        if not view.expired and not view.waiting:
            break
