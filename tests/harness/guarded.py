"""Sentinels and a cluster that speak TLS to each other and to us, and let a user in with no more rights than needed.

Each server also listens without TLS, for the tests' own hands.
"""

import tempfile
from pathlib import Path
from urllib.parse import quote

from harness.certificates import Certificates
from harness.ports import BUS, free_port
from harness.redis import RedisServer
from harness.topologies import Sentinel, SentinelTrio, SixNodeCluster

PASSWORD = "pass/word"
SENTINEL_PASSWORD = "of-the-sentinels"
WATCHER_PASSWORD = "of&the=watcher"


class _Guard:
    """The certificates, and the TLS port of each server."""

    def __init__(self, rights: list[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mediaflow-tls-")
        self.certificates = Certificates(Path(self._folder.name))
        self.tls_ports: dict[int, int] = {}
        self._rights = rights

    def server(self, tls_port: int, *options: str) -> RedisServer:
        for name, value in {**self.certificates.settings(), "tls-port": str(tls_port)}.items():
            options += (f"--{name}", value)
        made = RedisServer(*options)
        self.tls_ports[made.port] = tls_port
        made.start()
        made.command("ACL", "SETUSER", "mediaflow", "on", f">{PASSWORD}", *self._rights)
        return made

    @property
    def user(self) -> str:
        return f"mediaflow:{quote(PASSWORD, safe='')}"

    def close(self) -> None:
        self._folder.cleanup()


class GuardedCluster(SixNodeCluster):
    """Its bus and its replication are over TLS as well."""

    def __init__(self, rights: list[str]) -> None:
        self.guard = _Guard(rights)
        super().__init__()

    def _server(self, *options: str) -> None:
        self.servers.append(self.guard.server(free_port(BUS), "--tls-cluster", "yes", *options))

    def _port(self, server: RedisServer) -> int:
        return self.guard.tls_ports[server.port]

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{self._port(one)}" for one in self.servers)
        return f"rediss+cluster://{self.guard.user}@{places}?ssl_ca_certs={self.guard.certificates.ca}"

    def close(self) -> None:
        super().close()
        self.guard.close()


class GuardedTrio(SentinelTrio):
    """The sentinels have a password among themselves, and a user who may only ask them for the primary."""

    def __init__(self, rights: list[str], sentinel_rights: list[str]) -> None:
        self.guard = _Guard(rights)
        self._sentinel_rights = sentinel_rights
        super().__init__()

    def _server(self, *options: str) -> RedisServer:
        self.servers.append(server := self.guard.server(free_port(), *options))
        return server

    def _port(self, server: RedisServer) -> int:
        return self.guard.tls_ports[server.port]

    def _sentinel(self, *settings: str) -> Sentinel:
        tls_port = free_port()
        made = Sentinel(
            self._port(self.primary),
            2,
            *settings,
            *(f"{name} {value}" for name, value in self.guard.certificates.settings().items()),
            f"tls-port {tls_port}",
            f"requirepass {SENTINEL_PASSWORD}",
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
            f"user watcher on >{WATCHER_PASSWORD} {' '.join(self._sentinel_rights)}",
            password=SENTINEL_PASSWORD,
        )
        self.guard.tls_ports[made.port] = tls_port
        return made

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{self.guard.tls_ports[one.port]}" for one in self.sentinels)
        return (
            f"rediss+sentinel://{self.guard.user}@{places}/mymaster?ssl_ca_certs={self.guard.certificates.ca}"
            f"&sentinel_username=watcher&sentinel_password={quote(WATCHER_PASSWORD)}"
        )

    def close(self) -> None:
        super().close()
        self.guard.close()
