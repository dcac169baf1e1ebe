"""What the parts of the store share: settings, keys, and how to ask."""

from collections.abc import Sequence
from typing import Any

from mediaflow.core.lease import LEASE_CLOCK_CAP_S
from mediaflow.settings import Settings
from mediaflow.store.ask import Asker
from mediaflow.store.keys import Keyspace
from mediaflow.store.link import Call, Link
from mediaflow.store.meter import StoreMeter
from mediaflow.store.records import NamespaceMismatch
from mediaflow.store.scripts import load

CAP_MS = int(LEASE_CLOCK_CAP_S * 1000)


def text(value: Any) -> str:
    """Decode a reply's bulk string."""
    return value.decode() if isinstance(value, bytes) else str(value)


class Part:
    """A part of the store: the same link, keys and settings as the others."""

    def __init__(self, link: Link, settings: Settings) -> None:
        """Ask over ``link`` for the namespace that ``settings`` name; nothing is asked yet."""
        self._asker = Asker(link)
        self._settings = settings
        self._claimed_generation: int | None = None
        self._use(Keyspace(settings.namespace, settings.partitions))

    def _use(self, keys: Keyspace) -> None:
        """Work on these keys from now on."""
        self._keys = keys
        self._common: tuple[str | int, ...] = (
            CAP_MS,
            int(self._settings.lease_ttl * 1000),
            int(self._settings.retention * 1000),
            keys.hints_channel,
            keys.inbox_prefix,
        )

    @property
    def partitions(self) -> int:
        """Number of partitions of the namespace."""
        return self._keys.partitions

    @property
    def meter(self) -> StoreMeter:
        """What is measured of requests to Redis."""
        return self._asker.meter

    @property
    def generation(self) -> int:
        """Count of times that Redis was reached anew, or showed another ``run_id``."""
        return self._asker.link.server.generation

    async def check(self, *, timeout_s: float = 2.0) -> None:
        """Reach Redis and claim or verify the namespace.

        Raises:
            NamespaceMismatch: It was first used with other constants.
        """
        await self._asker.until(self._asker.link.ping, operation="ping", timeout_s=timeout_s)
        generation = self.generation
        if generation != self._claimed_generation:
            # Scripts publish last, when all is written: that it is allowed has to be known before. Nobody has the
            # inbox of no name.
            await self._asker.commands([("PUBLISH", self._keys.inbox_prefix, "")], timeout_s=timeout_s)
        claim = Call(load("claim_namespace"), [self._keys.constants], [self.partitions, CAP_MS])
        stored = [int(value) for value in await self._asker.run(claim, timeout_s=timeout_s)]
        if stored[0] != self.partitions:
            raise NamespaceMismatch(
                f"namespace {self._settings.namespace!r} was first used with {stored[0]} partitions, not "
                f"{self.partitions}: set partitions = {stored[0]}, or use another namespace"
            )
        if stored[1] != CAP_MS:
            raise NamespaceMismatch(
                f"namespace {self._settings.namespace!r} was first used with a lease clock cap of {stored[1]} ms, "
                f"not {CAP_MS} ms, by another version of mediaflow: use another namespace"
            )
        self._claimed_generation = generation

    async def _ask(
        self,
        script: str,
        partition: int,
        keys: Sequence[str],
        args: Sequence[str | bytes | int],
        *,
        timeout_s: float,
        replicas: int = 0,
    ) -> Any:
        """Run a script on a partition; the partition's own keys and arguments are put in front."""
        await self._ensure_claimed(timeout_s)
        return await self._asker.run(
            self._call(script, partition, keys, args), timeout_s=timeout_s, replicas=replicas
        )

    def _call(
        self, script: str, partition: int, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Call:
        return Call(load(script), [*self._keys.partition(partition), *keys], [*self._common, *args])

    async def _ensure_claimed(self, timeout_s: float) -> None:
        """Verify the namespace before its first use, and again when the server may be another one."""
        if self._claimed_generation != self.generation:
            await self.check(timeout_s=timeout_s)
