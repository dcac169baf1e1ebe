"""Every kind of Redis that the store runs on, each as something a test can start, empty and look into."""

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import fakeredis
import redis

from harness.ports import BUS, free_port
from harness.redis import START_WITHIN_S, RedisServer, find_redis_server
from mediaflow.store import single


class Topology(Protocol):
    """A Redis to run on; ``raw`` speaks to it behind the store's back."""

    @property
    def url(self) -> str: ...

    @property
    def raw(self) -> Any: ...

    def empty(self) -> None: ...

    def close(self) -> None: ...


class InProcess:
    """fakeredis, fresh after each :meth:`empty`: a global leaked by a script must not outlive its test."""

    def __init__(self) -> None:
        self._name = ""
        self.empty()

    @property
    def url(self) -> str:
        return f"memory://{self._name}"

    def empty(self) -> None:
        self.close()
        self._name = f"contract-{uuid.uuid4().hex}"
        server = single._servers_in_process.setdefault(self._name, fakeredis.FakeServer())
        self.raw = fakeredis.FakeRedis(server=server)

    def close(self) -> None:
        single._servers_in_process.pop(self._name, None)


class OneServer:
    """A plain redis-server."""

    scheme = "redis"

    def __init__(self, *options: str) -> None:
        self.server = RedisServer(*options)
        self.server.start()
        self.raw = redis.Redis(port=self.server.port, protocol=2)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server.port}/0"

    def empty(self) -> None:
        self.raw.flushall()

    def close(self) -> None:
        self.raw.close()
        self.server.close()


SENTINEL_PERIODS = ("info-period", "500", "publish-period", "500", "ask-period", "200")


class Sentinel:
    """A sentinel process that watches one primary, named ``mymaster``."""

    def __init__(self, primary_port: int, quorum: int, *settings: str, password: str = "") -> None:
        self._password = password
        self._folder = Path(tempfile.mkdtemp(prefix="mediaflow-sentinel-"))
        self.port = free_port()
        configuration = self._folder / "sentinel.conf"
        configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor mymaster 127.0.0.1 {primary_port} {quorum}\n"
            + "".join(f"{setting}\n" for setting in settings)
        )
        self._process = subprocess.Popen(
            [str(find_redis_server()), str(configuration), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def hurry(self) -> None:
        """Have it look at all that it knows twice a second, instead of every ten."""
        _until(lambda: self.ask("DEBUG", *SENTINEL_PERIODS) is not None, "the sentinel answers")

    def ask(self, *words: str) -> Any:
        """Ask it; None while it does not answer."""
        try:
            with redis.Redis(port=self.port, protocol=2, password=self._password) as sentinel:
                return sentinel.execute_command("SENTINEL", *words)
        except redis.RedisError:
            return None

    def primary_port(self) -> int:
        """Return where it believes the primary to be, 0 if it does not know."""
        found = self.ask("GET-MASTER-ADDR-BY-NAME", "mymaster")
        return int(found[1]) if found else 0

    def config_epoch(self) -> int:
        """Return the number of the last failover that it knows, 0 before the first."""
        told = self.ask("MASTER", "mymaster") or []
        return int(dict(zip(told[::2], told[1::2], strict=True)).get(b"config-epoch", 0))

    def agrees(self) -> bool:
        """Whether it sees enough others to have a failover decided and carried out."""
        return str(self.ask("CKQUORUM", "mymaster")).startswith(("OK", "b'OK"))

    def replicas(self) -> int:
        """Return how many replicas in good state it knows."""
        found = self.ask("REPLICAS", "mymaster") or []
        return sum(b"slave" in one and b"s_down,slave" not in one for one in found)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(timeout=10)
        shutil.rmtree(self._folder, ignore_errors=True)


DOWN_AFTER_MS = 1000
"""After so much silence a primary counts as failed, for sentinels and cluster nodes alike."""


class SentinelTrio:
    """A primary, two replicas, and three sentinels that put a replica in the place of a lost primary."""

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        self.sentinels: list[Sentinel] = []
        with contextlib.ExitStack() as failed:
            failed.callback(self.close)
            self._start()
            failed.pop_all()

    def _start(self) -> None:
        self.primary = self._server()
        for _ in range(2):
            self._server("--replicaof", "127.0.0.1", str(self._port(self.primary)))
        _until(lambda: _online_replicas(self.primary) == 2, "both replicas are in step")
        settings = (
            f"sentinel down-after-milliseconds mymaster {DOWN_AFTER_MS}",
            "sentinel failover-timeout mymaster 5000",
        )
        for _ in range(3):
            self.sentinels.append(self._sentinel(*settings))
        for one in self.sentinels:
            one.hurry()
        _until(
            lambda: all(one.agrees() and one.replicas() == 2 for one in self.sentinels),
            "the sentinels know each other and the replicas",
        )
        self.raw = redis.Redis(port=self.primary.port, protocol=2)

    def _server(self, *options: str) -> RedisServer:
        self.servers.append(server := RedisServer(*options))
        server.start()
        return server

    def _port(self, server: RedisServer) -> int:
        """Return at which port others reach a server."""
        return server.port

    def _sentinel(self, *settings: str) -> Sentinel:
        return Sentinel(self.primary.port, 2, *settings)

    def empty(self) -> None:
        self.raw.flushall()

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/mymaster"

    def failed_over(self) -> bool:
        """Whether the sentinels agree on another primary than the first."""
        return (
            self.primary.port not in (ports := {one.primary_port() for one in self.sentinels})
            and len(ports) == 1
        )

    def epoch(self) -> int:
        """Return a number that each failover makes greater."""
        return max(one.config_epoch() for one in self.sentinels)

    def is_at_rest(self) -> bool:
        """Whether no server takes writes that the primary does not know of."""
        return sum(map(_is_primary, self.servers)) == 1

    def close(self) -> None:
        for one in (*self.sentinels, *self.servers):
            one.close()


class ClusterClient(redis.RedisCluster):
    """redis-py's own, which would look for keys at one server alone."""

    def keys(self, pattern: str = "*", **options: Any) -> Any:
        return super().keys(pattern, target_nodes=self.PRIMARIES, **options)

    def flushall(self, **options: Any) -> Any:
        return super().flushall(target_nodes=self.PRIMARIES, **options)


class SixNodeCluster:
    """A Redis Cluster of three primaries with a replica each."""

    SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        with contextlib.ExitStack() as failed:
            failed.callback(self.close)
            self._start()
            failed.pop_all()

    def _start(self) -> None:
        for _ in range(6):
            self._server("--cluster-enabled", "yes", "--cluster-node-timeout", str(DOWN_AFTER_MS))
        self.primaries, replicas = self.servers[:3], self.servers[3:]
        for server, (first, last) in zip(self.primaries, self.SLOTS, strict=True):
            server.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        first = self.servers[0]
        for server in self.servers[1:]:
            server.command("CLUSTER", "MEET", "127.0.0.1", str(self._port(first)))
        _until(lambda: all(map(_knows_all, self.servers)), "all nodes know each other")
        for replica, primary in zip(replicas, self.primaries, strict=True):
            replica.command("CLUSTER", "REPLICATE", primary.command("CLUSTER", "MYID").decode())
        _until(self._whole, "the cluster is whole")
        self.raw = ClusterClient(host="127.0.0.1", port=self.servers[0].port, protocol=2)

    def _server(self, *options: str) -> None:
        self.servers.append(server := RedisServer(*options, port=free_port(BUS)))
        server.start()

    def _port(self, server: RedisServer) -> int:
        """Return at which port others reach a server."""
        return server.port

    def empty(self) -> None:
        self.raw.flushall()

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{one.port}' for one in self.servers)}"

    @contextlib.contextmanager
    def moving(self, slot: int) -> Iterator[None]:
        """Have a hash slot half at its primary and half at the next for as long as the block takes, then all there."""
        names = {one.port: one.command("CLUSTER", "MYID").decode() for one in self.primaries}
        source = next(one for one in self.primaries if self._serves(one, slot))
        target = self.primaries[(self.primaries.index(source) + 1) % 3]
        target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", names[source.port])
        source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", names[target.port])
        with redis.Redis(port=source.port) as client:
            keys = client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1_000_000)
            self._migrate(client, target, keys[: len(keys) // 2])
            yield
            while keys := client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                self._migrate(client, target, keys)
        for one in (target, source, *(one for one in self.primaries if one not in (source, target))):
            one.command("CLUSTER", "SETSLOT", str(slot), "NODE", names[target.port])

    def _migrate(self, client: Any, target: RedisServer, keys: list[bytes]) -> None:
        if keys:
            client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def _serves(self, server: RedisServer, slot: int) -> bool:
        with redis.Redis(port=server.port) as client:
            ranges = client.execute_command("CLUSTER", "SLOTS")
        owners = [port for first, last, (_, port, *_), *_ in ranges if first <= slot <= last]
        return owners == [server.port]

    def told(self, error: str) -> int:
        """Return how often clients were answered with an error, such as TRYAGAIN, by all servers together."""
        found = b" ".join(one.command("INFO", "errorstats") for one in self.servers if one.running)
        return sum(int(count) for count in re.findall(rf"errorstat_{error}:count=(\d+)".encode(), found))

    def failed_over(self) -> bool:
        """Whether the nodes that answer make a whole cluster again, without one of the first primaries."""
        running = [server for server in self.servers if server.running and not server.frozen]
        return all(
            b"cluster_state:ok" in server.command("CLUSTER", "INFO")
            and server.command("CLUSTER", "NODES").count(b"slave") == len(running) - 3
            for server in running
        )

    def epoch(self) -> int:
        """Return a number that each failover makes greater."""
        told = b" ".join(one.command("CLUSTER", "INFO") for one in self.servers if one.answers())
        return max(map(int, re.findall(rb"cluster_current_epoch:(\d+)", told)), default=0)

    def is_at_rest(self) -> bool:
        """Whether no server takes writes that the primaries do not know of."""
        return sum(map(_is_primary, self.servers)) == 3

    def _whole(self) -> bool:
        return all(b"cluster_state:ok" in one.command("CLUSTER", "INFO") for one in self.servers) and all(
            _online_replicas(one) == 1 for one in self.primaries
        )

    def close(self) -> None:
        for server in self.servers:
            server.close()


TOPOLOGIES = {"memory": InProcess, "redis": OneServer, "cluster": SixNodeCluster, "sentinel": SentinelTrio}


def _is_primary(server: RedisServer) -> bool:
    return server.answers() and b"role:master" in server.command("INFO", "replication")


def _online_replicas(server: RedisServer) -> int:
    return server.command("INFO", "replication").count(b"state=online")


def _knows_all(server: RedisServer) -> bool:
    nodes = server.command("CLUSTER", "NODES")
    return nodes.count(b"\n") == 6 and b"handshake" not in nodes


def _until(look: Any, about: str) -> None:
    deadline_s = time.monotonic() + START_WITHIN_S
    while not look():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"not within {START_WITHIN_S:g} s: {about}")
        time.sleep(0.01)
