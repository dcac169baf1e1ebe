"""What the scripts do to sessions, watched one call at a time; and a walk that leads through all of it.

The walk asks for anything at any time, as owners, watchdogs and clients do that are late, cut off or superseded,
on a Redis that forgets and is rolled back. It is drawn from a seed, and waits for nothing.
"""

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.laboratory import JUNIOR, SENIOR, THIRD, Laboratory, Record, parse_record
from mediaflow.core.states import Stage
from mediaflow.store import Claim, Owner, SessionRef
from mediaflow.store.link import Call

CALLS = ("call", "other")
OWNERS = (SENIOR, JUNIOR, THIRD, SENIOR._replace(incarnation=2))


class Seen(NamedTuple):
    """A session before and after a script ran, and what it logged of it."""

    source: Stage
    target: Stage
    script: str
    events: tuple[str, ...]


def stage(record: Record | None) -> Stage:
    if record is None:
        return "absent"
    return "offered" if record.state == "active" and not record.accepted else record.state  # type: ignore[return-value]


class Observatory:
    """A link that looks at all sessions before and after each script, in a laboratory with one partition."""

    def __init__(self, lab: Laboratory) -> None:
        self._lab = lab
        self._link = lab.store._asker.link
        self._seen: list[Seen] = []
        lab.store._asker.link = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def take(self) -> list[Seen]:
        """Return what was seen since the last time."""
        seen, self._seen = self._seen, []
        return seen

    async def ask(self, call: Call, timeout_s: float) -> Any:
        before, position = self._records(), self._newest_event()
        answer = await self._link.ask(call, timeout_s)
        self._compare(call.script.name, before, position)
        return answer

    async def run(self, call: Call, **options: Any) -> Any:
        before, position = self._records(), self._newest_event()
        answer = await self._link.run(call, **options)
        self._compare(call.script.name, before, position)
        return answer

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        return [await self.run_one(call) for call in calls]

    async def run_one(self, call: Call) -> Any:
        before, position = self._records(), self._newest_event()
        (answer,) = await self._link.run_many([call])
        self._compare(call.script.name, before, position)
        return answer

    def _records(self) -> dict[str, Record]:
        found: dict[str, Record] = {}
        prefix = self._lab.keys.call(0, "")
        for key in self._lab.raw.keys(f"{prefix}*"):
            for name, text in self._lab.raw.hgetall(key).items():
                if name.startswith(b"s:"):
                    found[f"{key.decode().removeprefix(prefix)}/{name.decode()[2:]}"] = parse_record(text)
        return found

    def _newest_event(self) -> bytes:
        newest = self._lab.raw.xrevrange(self._lab.keys.log(0), "+", "-", count=1)
        return newest[0][0] if newest else b"0-0"

    def _compare(self, script: str, before: dict[str, Record], position: bytes) -> None:
        after = self._records()
        logged: dict[str, list[str]] = {}
        for _, fields in self._lab.raw.xrange(self._lab.keys.log(0), b"(" + position, "+"):
            member = f"{fields[b'call'].decode()}/{fields[b'session'].decode()}"
            logged.setdefault(member, []).append(fields[b"event"].decode())
        for member in before.keys() | after.keys() | logged.keys():
            old, new = before.get(member), after.get(member)
            if old != new or member in logged:
                self._seen.append(Seen(stage(old), stage(new), script, tuple(sorted(logged.get(member, ())))))


class Walk:
    """Asks a store for one thing after the other, drawn from a seed.

    Attributes:
        looks: How many leases were renewed by a look alone.
    """

    def __init__(self, lab: Laboratory, seed: int) -> None:
        self._lab = lab
        self._random = random.Random(seed)
        self.looks = 0
        self._claims: list[Claim] = []
        self._snapshots: list[dict[bytes, tuple[bytes, int]]] = []

    async def go(self, steps: int) -> None:
        ways = (
            *((self._ask,) * 4),
            *((self._as_owner,) * 20),
            *((self._as_watchdog,) * 10),
            self._end,
            self._lose,
        )
        for _ in range(steps):
            await self._random.choice(ways)()

    # -- who asks -------------------------------------------------------------------------------

    async def _ask(self) -> None:
        owner = self._random.choice((None, *OWNERS))
        call_id = self._random.choice(CALLS)
        made = await self._lab.create(call_id, owner, key=f"key-{self._random.randrange(40)}")
        self._claims.append(Claim(call_id, made.session_id, made.fence))

    async def _as_owner(self) -> None:
        store, claim, owner = self._lab.store, *self._somebody()
        match self._random.randrange(12):
            case 0 | 1 | 2:
                await store.accept(owner, claim)
            case 3 | 4 | 5:
                if self._random.random() < 0.2:
                    await store.renew(owner, claim, new_fence=True)
                else:
                    await self._renew_twice(owner, claim)
            case 6:
                await store.refuse(owner, claim, "no slot")
            case 7:
                await store.release(owner, claim, "drain")
            case 8:
                await store.fail(owner, claim, "boom", 0.0)
            case 9:
                await store.complete(owner, claim)
            case _:
                await store.readopt(owner, self._lab.held(claim))

    async def _renew_twice(self, owner: Owner, claim: Claim) -> None:
        """Renew by a look, then by the whole script: where the look was enough, that finds nothing else."""
        (was_enough,) = await self._lab.look(owner, claim)
        renewal = await self._lab.store.renew(owner, claim)
        if was_enough:
            assert renewal.status == "renewed", f"a look renewed what was {renewal.status}"
            self.looks += 1

    async def _as_watchdog(self) -> None:
        claim, owner = self._somebody()
        match self._random.randrange(4):
            case 0 | 1:
                await self._lab.assign(claim, owner)
            case 2:
                if self._random.random() < 0.7:
                    self._lab.lapse(claim)
                await self._lab.store.sweep(0, [SessionRef(claim.call_id, claim.session_id)])
            case 3:
                await self._lab.store.sweep_dead(owner.instance_id, owner.incarnation, "process died")

    async def _end(self) -> None:
        await self._lab.store.cancel(self._random.choice(CALLS), "asked")

    async def _lose(self) -> None:
        match self._random.randrange(4):
            case 0:
                self._lab.forget()
                await self._lab.store.check()
            case 1 if self._snapshots:
                self._lab.roll_back(self._random.choice(self._snapshots[-3:]))
            case _:
                self._snapshots.append(self._lab.snapshot())

    def _somebody(self) -> tuple[Claim, Owner]:
        """Return a claim, mostly one that holds, and mostly who holds it."""
        known = self._current()
        if known and self._random.random() < 0.8:
            claim, record = self._random.choice(known)
            holder = next((one for one in OWNERS if one[:2] == (record.owner, record.incarnation)), None)
            self._claims.append(claim)
            if holder and self._random.random() < 0.7:
                return claim, holder
            return claim, self._random.choice(OWNERS)
        if not self._claims:
            return Claim("call", "unknown", 1), SENIOR
        return self._random.choice(self._claims[-40:]), self._random.choice(OWNERS)

    def _current(self) -> list[tuple[Claim, Record]]:
        found: list[tuple[Claim, Record]] = []
        for call_id in CALLS:
            for name, text in sorted(self._lab.raw.hgetall(self._lab.keys.call(0, call_id)).items()):
                if name.startswith(b"s:"):
                    record = parse_record(text)
                    if record.state in ("active", "pending"):
                        found.append((Claim(call_id, name.decode()[2:], record.fence), record))
        return found
