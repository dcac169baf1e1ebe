"""Hosts that are apart: each a network namespace with a cable of its own to a switch that tests can pull.

A cable is pulled at the switch, in a third namespace. Both ends keep their carrier, their addresses and their
routes, and what they send vanishes: no reset, no refusal, as when a network between them fails.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
from typing import Self

BRIDGE = "br0"
LAST_HOST = 254


class NotPermitted(Exception):
    """Namespaces cannot be made here; the message is the reason."""


class Cable:
    """Leads from the switch to a host named ``name`` at ``address``; programs run ``inside`` it."""

    def __init__(self, switch: str, port: str, name: str, address: str) -> None:
        self._switch = switch
        self._port = port
        self.name = name
        self.address = address

    @property
    def inside(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)

    def pull(self) -> None:
        _ip("-n", self._switch, "link", "set", self._port, "nomaster")

    def plug(self) -> None:
        _ip("-n", self._switch, "link", "set", self._port, "master", BRIDGE)


class Switch:
    """A switch to which this host is connected at ``address``; ``with`` it.

    The addresses are of 198.18.0.0/15, which is set aside for tests of networks (RFC 2544).
    """

    def __init__(self) -> None:
        self._tag = f"mf{secrets.token_hex(4)}"
        self._network = f"198.{18 + secrets.randbelow(2)}.{secrets.randbelow(256)}"
        self._hosts: list[str] = []
        self.address = f"{self._network}.1"

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise NotPermitted("making network namespaces needs root and iproute2")
        try:
            _ip("netns", "add", self._tag)
            _ip("-n", self._tag, "link", "add", BRIDGE, "type", "bridge")
            _ip("-n", self._tag, "link", "set", BRIDGE, "up")
            _ip("link", "add", self._tag, "type", "veth", "peer", "name", "p1", "netns", self._tag)
            _ip("-n", self._tag, "link", "set", "p1", "master", BRIDGE, "up")
            _ip("addr", "add", f"{self.address}/24", "dev", self._tag)
            _ip("link", "set", self._tag, "up")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            raise NotPermitted(f"network namespaces cannot be made here: {error.stderr.strip()}") from error
        return self

    def __exit__(self, *failure: object) -> None:
        for words in (
            ("link", "del", self._tag),
            *(("netns", "del", name) for name in (*self._hosts, self._tag)),
        ):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip(*words)

    def connect(self) -> Cable:
        """Add a host, connected."""
        number = len(self._hosts) + 2
        assert number <= LAST_HOST
        name, port, address = f"{self._tag}-{number}", f"p{number}", f"{self._network}.{number}"
        _ip("netns", "add", name)
        self._hosts.append(name)
        _ip("-n", self._tag, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", self._tag, "link", "set", port, "master", BRIDGE, "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", "eth0", "up")
        return Cable(self._tag, port, name, address)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)
