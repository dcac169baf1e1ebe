"""What an examination of Redis means for mediaflow: one check after the other, each with what to do. Pure."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from mediaflow.store.examination import Findings, Node
from mediaflow.supervisor.figures import count, percentile
from mediaflow.web.connections import MAX_CONNECTIONS

Level = Literal["ok", "warn", "bad"]

HASH_SLOTS = 16_384
_MEND_CLUSTER = "redis-cli --cluster check, then --cluster fix: calls of the others cannot be taken"
_SLOW_MS, _TOO_SLOW_MS = 20.0, 250.0
_CLOCK_MS = 2_000.0
_NEARLY_FULL, _FULL = 0.8, 0.95
_CONNECTIONS = 200
_OWN_DESCRIPTORS = 256
"""Of a program by itself: connections to Redis, clients, files."""
_CLIENTS_AT_ONCE = 1024


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line: what was looked at, how it is, what was found, and what to do if it is not as it should be."""

    name: str
    level: Level
    found: str
    advice: str = ""


class Expected(NamedTuple):
    """What is asked of Redis and of this host.

    Attributes:
        namespace: Whose rights are needed.
        partitions: With which the programs are started.
        replicas: ``durability_replicas``.
        slots: Of one instance.
        descriptors: Files that a process may open here; a negative number for any number.
        waiting: Connections that this host lets wait for a program to accept them; None if it does not say.
    """

    namespace: str
    partitions: int
    replicas: int
    slots: int
    descriptors: int
    waiting: int | None


def judge(findings: Findings, expected: Expected) -> list[Check]:
    """Return the checks in the order in which a person would look."""
    if findings.unreachable:
        return [_unreached(findings), *_host_checks(expected)]
    checks = [_reached(findings)]
    for node in findings.nodes:
        at = f" of {node.name}" if len(findings.nodes) > 1 else ""
        checks += [
            msgspec.structs.replace(check, name=check.name + at)
            for check in _node_checks(node, findings, expected)
        ]
    if findings.slots_covered is not None:
        checks.append(_hash_slots(findings.slots_covered))
    checks += [_namespace(findings, expected), _scripts(findings), _rights(findings, expected)]
    checks += [_messages(findings), _latency(findings), *_host_checks(expected)]
    return checks


def _unreached(findings: Findings) -> Check:
    if "not covered" in findings.unreachable:  # redis-py does not begin with less than all hash slots
        return Check(name="hash slots", level="bad", found=findings.unreachable, advice=_MEND_CLUSTER)
    return Check(
        name="Redis",
        level="bad",
        found=f"{findings.address}: {findings.unreachable}",
        advice="start it, name another with --redis, or look at firewall, password and TLS",
    )


def _reached(findings: Findings) -> Check:
    if findings.topology == "memory":
        return Check(
            name="Redis",
            level="warn",
            found="a store inside this process",
            advice="for trying things out only: give --redis redis://host:port for anything that matters",
        )
    kind = {"single": "one server", "sentinel": "behind Sentinel", "cluster": "Redis Cluster"}
    nodes = f", {count(len(findings.nodes), 'primary').replace('primarys', 'primaries')}"
    what = kind[findings.topology] + (nodes if findings.topology == "cluster" else "")
    return Check(name="Redis", level="ok", found=f"{findings.address} answers: {what}")


def _node_checks(node: Node, findings: Findings, expected: Expected) -> Iterator[Check]:
    if not node.info:
        yield Check(
            name="server",
            level="warn",
            found="it does not say how it is (INFO)",
            advice="allow the user +info, or look at version, memory and persistence yourself",
        )
        return
    yield _version(node)
    yield from _role(node, findings)
    yield _memory(node)
    yield _eviction(node)
    yield _persistence(node)
    yield from _replication(node, findings, expected)
    yield _connections(node)
    yield _clock(node)


def _version(node: Node) -> Check:
    said = str(node.info.get("redis_version", "0"))
    version = tuple(int(part) if part.isdecimal() else 0 for part in said.split(".")[:2])
    name = node.info.get("server_name", "redis")
    found = f"{name} {node.info.get('valkey_version', said) if name == 'valkey' else said}"
    if version < (6, 2):
        return Check(
            name="version", level="bad", found=found, advice="use 7 or later; 6.2 is the oldest that works"
        )
    if version < (7, 0):
        advice = (
            "use 7 or later: before, a full memory refuses renewals too, and live calls lose their leases"
        )
        return Check(name="version", level="warn", found=found, advice=advice)
    return Check(name="version", level="ok", found=found)


def _role(node: Node, findings: Findings) -> Iterator[Check]:
    if node.info.get("role", "master") != "master":
        advice = "name the primary, or use redis+sentinel:// or redis+cluster://, which find it"
        yield Check(name="role", level="bad", found="a replica, which takes no writes", advice=advice)
    if int(node.info.get("cluster_enabled", 0)) and findings.topology != "cluster":
        advice = "use redis+cluster://host:port,…"
        yield Check(
            name="role",
            level="bad",
            found="a node of a Redis Cluster, addressed as one server",
            advice=advice,
        )


def _memory(node: Node) -> Check:
    used, most = int(node.info.get("used_memory", 0)), int(node.info.get("maxmemory", 0))
    if not most:
        advice = "set maxmemory below what its host has: else the kernel ends Redis when memory runs out"
        return Check(name="memory", level="warn", found=f"{_bytes(used)} used, no maxmemory", advice=advice)
    share = used / most
    found = f"{_bytes(used)} of {_bytes(most)} used ({share:.0%})"
    if share < _NEARLY_FULL:
        return Check(name="memory", level="ok", found=found)
    level: Level = "bad" if share >= _FULL else "warn"
    advice = "raise maxmemory, or shorten retention: a full Redis refuses new calls"
    return Check(name="memory", level=level, found=found, advice=advice)


def _eviction(node: Node) -> Check:
    policy = str(node.info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        return Check(name="eviction", level="ok", found=policy)
    level: Level = "bad" if int(node.info.get("maxmemory", 0)) else "warn"
    advice = "CONFIG SET maxmemory-policy noeviction: evicted keys are calls that are forgotten"
    return Check(name="eviction", level=level, found=policy, advice=advice)


def _persistence(node: Node) -> Check:
    info, config = node.info, node.settings
    if info.get("aof_enabled") and info.get("aof_last_write_status", "ok") != "ok":
        advice = "look at its disk and log: it refuses writes until that is mended"
        return Check(
            name="persistence", level="bad", found="the append-only file cannot be written", advice=advice
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        advice = "look at its disk, memory and log: by default it refuses writes until a snapshot succeeds"
        return Check(name="persistence", level="bad", found="the last snapshot failed", advice=advice)
    if info.get("aof_enabled"):
        sync = f", fsync {config['appendfsync']}" if config and config.get("appendfsync") else ""
        if sync.endswith(" no"):
            advice = "CONFIG SET appendfsync everysec: else a crash of its host loses half a minute"
            return Check(name="persistence", level="warn", found=f"append-only file{sync}", advice=advice)
        return Check(name="persistence", level="ok", found=f"append-only file{sync}")
    lost = "a restart loses waiting calls, ended ones and idempotency keys (live owners put theirs back)"
    if config is None:
        advice = "see that your provider keeps an append-only file"
        return Check(
            name="persistence",
            level="warn",
            found="no append-only file; CONFIG cannot be read",
            advice=advice,
        )
    advice = f"CONFIG SET appendonly yes: {lost}"
    if config.get("save"):
        return Check(
            name="persistence",
            level="warn",
            found="snapshots only, which lag behind by minutes",
            advice=advice,
        )
    return Check(name="persistence", level="warn", found="none", advice=advice)


def _replication(node: Node, findings: Findings, expected: Expected) -> Iterator[Check]:
    replicas = int(node.info.get("connected_slaves", 0))
    found = count(replicas, "replica")
    if replicas < expected.replicas:
        yield Check(
            name="replication",
            level="bad",
            found=f"{found}, and durability_replicas = {expected.replicas}",
            advice="add replicas, or lower durability_replicas: every new call is refused",
        )
    elif findings.topology in ("sentinel", "cluster"):
        yield _failover(node, replicas, found)


def _failover(node: Node, replicas: int, found: str) -> Check:
    if not replicas:
        advice = "add a replica: nothing can take the primary's place"
        return Check(name="replication", level="warn", found=found, advice=advice)
    if node.settings is not None and node.settings.get("min-replicas-to-write", "0") in ("", "0"):
        return Check(
            name="replication",
            level="warn",
            found=f"{found}, min-replicas-to-write 0",
            advice="set min-replicas-to-write 1 and min-replicas-max-lag 2: else a failover loses what the old "
            "primary took meanwhile",
        )
    return Check(name="replication", level="ok", found=found)


def _connections(node: Node) -> Check:
    clients, most = int(node.info.get("connected_clients", 0)), int(node.info.get("maxclients", 0))
    found = f"{clients:,} of {most:,} clients" if most else count(clients, "client")
    if most and most - clients < _CONNECTIONS:
        advice = "raise maxclients: each program may open 70 connections"
        return Check(name="connections", level="warn", found=found, advice=advice)
    return Check(name="connections", level="ok", found=found)


def _clock(node: Node) -> Check:
    ahead_ms = node.clock_ahead_ms
    found = f"{abs(ahead_ms) / 1000:.3f} s {'ahead of' if ahead_ms > 0 else 'behind'} this host's"
    if abs(ahead_ms) - node.clock_error_ms <= _CLOCK_MS:
        return Check(name="clock", level="ok", found=found)
    advice = "run NTP on both: leases do not mind, but times that people and players see are wrong"
    return Check(name="clock", level="warn", found=found, advice=advice)


def _hash_slots(covered: int) -> Check:
    found = f"{covered:,} of {HASH_SLOTS:,} are served"
    if covered == HASH_SLOTS:
        return Check(name="hash slots", level="ok", found=found)
    return Check(name="hash slots", level="bad", found=found, advice=_MEND_CLUSTER)


def _namespace(findings: Findings, expected: Expected) -> Check:
    name, there = expected.namespace, findings.partitions
    if not there:
        return Check(name="namespace", level="ok", found=f"{name} has not been used yet")
    if there == expected.partitions:
        return Check(name="namespace", level="ok", found=f"{name}, {count(there, 'partition')}")
    return Check(
        name="namespace",
        level="bad",
        found=f"{name} was first used with {count(there, 'partition')}, not {expected.partitions}",
        advice=f"set partitions = {there}, or use another namespace",
    )


def _scripts(findings: Findings) -> Check:
    if not findings.unloadable:
        return Check(name="scripts", level="ok", found=f"all {findings.scripts} load")
    refused = any("NOPERM" in one or "permission" in one for one in findings.unloadable)
    first = f"{len(findings.unloadable)} of {findings.scripts} do not load: {findings.unloadable[0]}"
    if refused and not findings.rehearsal:
        return Check(
            name="scripts",
            level="ok",
            found="SCRIPT LOAD is not allowed, and not needed: the life of a call was played through",
        )
    advice = "allow the user +@scripting" if refused else "use a Redis of version 7 or later, unmodified"
    return Check(name="scripts", level="bad", found=first, advice=advice)


def _rights(findings: Findings, expected: Expected) -> Check:
    if not findings.rehearsal:
        return Check(name="rehearsal", level="ok", found="the life of a call was played through")
    name = expected.namespace
    denied = any(word in findings.rehearsal for word in ("NOPERM", "permission", "ACL", "can't"))
    advice = (
        f"give the user ~{name}:* &{name}:* +@read +@write +@scripting +@pubsub +@connection +info +time +wait"
        if denied
        else "see what it says: programs would meet the same"
    )
    return Check(name="rehearsal", level="bad", found=findings.rehearsal, advice=advice)


def _messages(findings: Findings) -> Check:
    if findings.message_ms is not None:
        return Check(name="pub/sub", level="ok", found=f"a message took {findings.message_ms:.1f} ms")
    advice = "allow SUBSCRIBE and PUBLISH on the namespace's channels: without them calls move seconds later"
    return Check(name="pub/sub", level="bad", found=findings.deaf, advice=advice)


def _latency(findings: Findings) -> Check:
    times = findings.round_trips_ms
    if not times:
        return Check(
            name="latency",
            level="bad",
            found="no round trip succeeded",
            advice="look at the network to Redis",
        )
    p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
    found = f"{count(len(times), 'round trip')}: p50 {p50:.2f} ms, p99 {p99:.2f} ms"
    if p99 < _SLOW_MS:
        return Check(name="latency", level="ok", found=found)
    level: Level = "bad" if p99 >= _TOO_SLOW_MS else "warn"
    advice = "put Redis nearer, and see what holds it up: SLOWLOG GET, large keys, a swapping or busy host"
    return Check(name="latency", level=level, found=found, advice=advice)


def _host_checks(expected: Expected) -> Iterator[Check]:
    yield _descriptors(expected)
    if expected.waiting is not None:
        yield _waiting(expected.waiting)


def _descriptors(expected: Expected) -> Check:
    most, slots = expected.descriptors, expected.slots
    if most < 0:
        return Check(name="descriptors", level="ok", found="a process may open any number of files")
    found = f"a process may open {most:,} files, for {count(slots, 'slot')}"
    wanted = _OWN_DESCRIPTORS + 4 * slots
    advice = f"ulimit -n {wanted} or more (systemd: LimitNOFILE={wanted}), or fewer --slots"
    if most < _OWN_DESCRIPTORS + slots:
        return Check(name="descriptors", level="bad", found=found, advice=advice)
    if most < wanted:
        return Check(name="descriptors", level="warn", found=found, advice=advice)
    return Check(name="descriptors", level="ok", found=found)


def _waiting(most: int) -> Check:
    found = f"{most:,} may come at once"
    if most < _CLIENTS_AT_ONCE:
        return Check(
            name="new clients",
            level="warn",
            found=f"{found}: in a burst, all others wait a second, or three",
            advice=f"sysctl -w net.core.somaxconn={MAX_CONNECTIONS}",
        )
    return Check(name="new clients", level="ok", found=found)


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
