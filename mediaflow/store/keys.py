"""Names of all keys and channels of a namespace, in one place.

A script's keys always begin with those of its unit (partition or registry), in the order that
``lua/_partition.lua`` and ``lua/_registry.lua`` give them.
"""

from mediaflow.core import partitions as core_partitions


class Keyspace:
    """The keys of one namespace with a fixed number of partitions."""

    def __init__(self, namespace: str, partitions: int) -> None:
        """Lay out a namespace; see :func:`mediaflow.core.partitions.tags` for the hash tags."""
        self.namespace = namespace
        self.partitions = partitions
        tags = core_partitions.tags(partitions)
        self._prefixes = [f"{namespace}:{{{tag}}}:" for tag in tags]
        self._partition_keys = [
            [prefix + name for name in ("clock", "leases", "pending", "calls", "ended", "log", "held")]
            for prefix in self._prefixes
        ]
        registry = f"{namespace}:{{registry}}:"
        self.constants = registry + "constants"
        self.registry = [registry + name for name in ("clock", "instances", "records", "log")]
        self.hints_channel = f"{namespace}:hints"
        self.inbox_prefix = f"{namespace}:inbox:"

    def partition_of(self, call_id: str) -> int:
        """Return the number of the partition of a call."""
        return core_partitions.partition_of(call_id, self.partitions)

    def partition(self, number: int) -> list[str]:
        """Return the keys that every script on a partition gets first."""
        return self._partition_keys[number]

    def clock(self, number: int) -> str:
        """Return the key of a partition's lease clock."""
        return self._partition_keys[number][0]

    def leases(self, number: int) -> str:
        """Return the key of a partition's index of active sessions."""
        return self._partition_keys[number][1]

    def pending(self, number: int) -> str:
        """Return the key of a partition's index of pending sessions."""
        return self._partition_keys[number][2]

    def calls(self, number: int) -> str:
        """Return the key of a partition's index of calls."""
        return self._partition_keys[number][3]

    def log(self, number: int) -> str:
        """Return the key of a partition's log; the registry's log has the number behind the last."""
        return self.registry[3] if number == self.partitions else self._partition_keys[number][5]

    def call(self, number: int, call_id: str) -> str:
        """Return the key of a call's ownership records."""
        return f"{self._prefixes[number]}call:{call_id}"

    def session(self, number: int, session_id: str) -> str:
        """Return the key of what is seldom read of a session."""
        return f"{self._prefixes[number]}session:{session_id}"

    def prefixes(self, number: int) -> tuple[str, str]:
        """Return what :meth:`call` and :meth:`session` put in front of the ids, for whoever names many."""
        return self.call(number, ""), self.session(number, "")

    def idempotency(self, number: int, call_id: str) -> str:
        """Return the key of a call's remembered answers."""
        return f"{self._prefixes[number]}idempotency:{call_id}"

    def owned(self, number: int, instance_id: str) -> str:
        """Return the key of the set of sessions that an instance owns in a partition."""
        return f"{self._prefixes[number]}owned:{instance_id}"
