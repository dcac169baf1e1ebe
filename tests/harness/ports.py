"""Ports for the servers of tests."""

import itertools
import random
import socket

# Below those that Linux gives to outgoing connections (from 32768 on), as are the bus ports of a Redis Cluster's nodes:
# no connection made elsewhere takes a port before the server that it is meant for does.
PORTS = range(11_000, 21_000)
BUS = 10_000
"""So far above its port is a cluster node's bus; nodes whose bus is elsewhere do not find each other."""

# A run comes back to a port only after all others; runs side by side begin far from each other, most likely.
_candidates = itertools.islice(itertools.cycle(PORTS), random.randrange(len(PORTS)), None)


def free_port(*others: int) -> int:
    """Return a port of this host at which nobody listens now, nor at those so many above it."""
    for port in itertools.islice(_candidates, len(PORTS)):
        if all(map(_is_free, (port, *(port + other for other in others)))):
            return port
    raise RuntimeError(f"none of the ports {PORTS.start} to {PORTS.stop - 1} is free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
