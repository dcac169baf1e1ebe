"""The store as a register of instances, with a lease clock of its own."""

import asyncio
from typing import Any

import msgspec

from mediaflow.store.link import Call
from mediaflow.store.part import CAP_MS, Part, text
from mediaflow.store.records import Beat, InstanceRecord, InstanceReport
from mediaflow.store.scripts import load

PAGE = 250
"""Instances in one reading at most: a bound on how long Redis, and this process, serve nobody else."""


class Registry(Part):
    """Scripts for heartbeats, leaving, and the roster."""

    async def heartbeat(self, report: InstanceReport, *, timeout_s: float = 2.0) -> Beat:
        """Register or refresh an instance."""
        status, incarnation = await self._beat(report, report.incarnation, timeout_s)
        if status == "first":
            # Under a number that is fixed by now, a request that comes late makes no newer process of this one.
            status, incarnation = await self._beat(report, incarnation, timeout_s)
        return Beat(status, incarnation)

    async def _beat(self, report: InstanceReport, incarnation: int, timeout_s: float) -> tuple[Any, int]:
        reply = await self._ask_registry(
            "heartbeat",
            [
                int(self._settings.lease_ttl * 1000),
                report.instance_id,
                report.token,
                incarnation,
                report.state,
                report.free,
                msgspec.json.encode(report),
            ],
            timeout_s=timeout_s,
        )
        return text(reply[0]), int(reply[1])

    async def leave(self, instance_id: str, incarnation: int, reason: str, *, timeout_s: float = 2.0) -> bool:
        """Strike an instance off, unless a newer incarnation is there."""
        reply = await self._ask_registry("leave", [instance_id, incarnation, reason], timeout_s=timeout_s)
        return text(reply[0]) == "left"

    async def instances(self, *, timeout_s: float = 2.0) -> list[InstanceRecord]:
        """Return all instances that are registered, by id.

        A large fleet is read page by page, so that neither Redis nor this process is kept from all else meanwhile. Each
        instance is shown as it was at some moment of the reading.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        await self._ensure_claimed(timeout_s)
        # The index has whoever has a record: a script writes it first, and removes it last.
        (names,) = await self._asker.commands(
            [("ZRANGE", self._keys.registry[1], 0, -1)], timeout_s=timeout_s
        )
        names.sort()
        found: list[InstanceRecord] = []
        # A page is read even where nobody is: the script keeps the registry's lease time going.
        for first in range(0, max(1, len(names)), PAGE):
            left_s = max(deadline_s - loop.time(), 0.001)
            lease_ms, records, expiries = await self._ask_registry(
                "roster", names[first : first + PAGE], timeout_s=left_s
            )
            found += [
                self._record(record, int(lease_ms), int(float(expiry)))
                for record, expiry in zip(records, expiries, strict=True)
                if record is not None and expiry is not None
            ]
        return found

    def _record(self, record: bytes, now_ms: int, expires_at_ms: int) -> InstanceRecord:
        incarnation, _, _, _, encoded = record.split(b"|", 4)
        report = msgspec.json.decode(encoded, type=InstanceReport)
        ttl_ms = int(self._settings.lease_ttl * 1000)
        return InstanceRecord(
            instance_id=report.instance_id,
            incarnation=int(incarnation),
            rank=report.rank,
            address=report.address,
            slots=report.slots,
            used=report.used,
            state=report.state,
            version=report.version,
            started_at_ms=report.started_at_ms,
            heartbeat_age_ms=max(0, now_ms - (expires_at_ms - ttl_ms)),
            alive=expires_at_ms > now_ms,
            load=report.load,
            overloaded=report.overloaded,
            renewals_per_s=report.renewals_per_s,
        )

    async def _ask_registry(self, script: str, args: list[str | bytes | int], *, timeout_s: float) -> Any:
        await self._ensure_claimed(timeout_s)
        call = Call(load(script), self._keys.registry, [CAP_MS, self._keys.hints_channel, *args])
        return await self._asker.run(call, timeout_s=timeout_s)
