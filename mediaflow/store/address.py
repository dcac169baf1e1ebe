"""From a Redis URL to a link: the one place that knows how each topology is written and opened."""

import re
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from mediaflow.store.cluster import ClusterLink
from mediaflow.store.link import Link, Server
from mediaflow.store.single import PipedLink, link_in_process
from mediaflow.store.slots import Address

MAX_CONNECTIONS = 64
"""Connections of one process besides the one that its requests share: for writes that wait for replicas."""

CONNECT_TIMEOUT_S = 1.0


_PASSWORD_OPTION = re.compile(r"(?<=password=)[^&]*")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class IllegalRedisUrl(ValueError):
    """The URL names no topology that we know, or lacks a part; the message says which."""


def open_link(url: str) -> Link:
    """Return a link to the Redis that ``url`` names; nothing is connected yet.

    Raises:
        IllegalRedisUrl: The URL cannot be understood.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        return link_in_process(rest)
    server = Server()
    if scheme in ("redis", "rediss", "unix"):
        return _single(url, server)
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return _sentinel(url, server)
    if scheme in ("redis+cluster", "rediss+cluster"):
        return _cluster(url, server)
    raise IllegalRedisUrl(
        f"Redis URL {hide_password(url)!r}: use redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// "
        "or memory://"
    )


def hide_password(url: str) -> str:
    """Return a URL that may be shown to people."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    if at:
        name, colon, _ = credentials.partition(":")  # what stands alone may be the password
        place = f"{name}:***@{place}" if colon else f"***@{place}"
    return f"{scheme}{separator}{_PASSWORD_OPTION.sub(r'***', place)}"


def _connection_settings(server: Server, node: str) -> dict[str, Any]:
    return {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "redis_connect_func": partial(server.greet, node=node),
        "protocol": 2,
    }


def _single(url: str, server: Server) -> PipedLink:
    settings = _connection_settings(server, "primary")
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            _check_socket(parts.path)
            del settings["socket_keepalive"]  # a matter of TCP
        else:
            _database(parts.path)
        _check_tls_files({name: values[-1] for name, values in parse_qs(parts.query).items()})
        pool: Any = cast("Any", aioredis.BlockingConnectionPool).from_url(
            url, max_connections=MAX_CONNECTIONS, timeout=None, **settings
        )
        pool.make_connection()  # connects nothing; it is here that redis-py looks at the options
    except (ValueError, RedisError) as error:
        raise IllegalRedisUrl(f"Redis URL {hide_password(url)!r}: {error}") from None
    except TypeError as error:
        option = str(error).partition("keyword argument ")[2].partition(".")[0]
        raise IllegalRedisUrl(f"Redis URL {hide_password(url)!r}: there is no option {option}") from None
    return PipedLink(aioredis.Redis(connection_pool=pool), server)


def _check_socket(path: str) -> None:
    if not path.strip("/"):
        raise ValueError("name the socket, as in unix:///run/redis/redis.sock")


def _database(path: str) -> int:
    number = path.strip("/")
    if number and not (number.isascii() and number.isdigit()):
        raise ValueError(f"{number!r} is not the number of a database")
    return int(number or 0)


def _check_tls_files(options: dict[str, str]) -> None:
    """Refuse files that are not there: while connecting, the error would look like one of the network."""
    for name in _TLS_FILES:
        if name in options and not Path(options[name]).is_file():
            raise ValueError(f"{name} names {options[name]!r}, which is not a file")


def _parts(url: str) -> tuple[list[tuple[str, int]], dict[str, Any], list[str], dict[str, str]]:
    """Split a URL of several hosts into hosts, credentials, path and options."""
    scheme, _, rest = url.partition("://")
    credentials, _, place = rest.rpartition("@")
    hosts_text = place.split("/", 1)[0].split("?", 1)[0]
    hosts: list[tuple[str, int]] = []
    for item in hosts_text.split(","):
        host, colon, port = item.rpartition(":")
        if not colon or not host or not _is_port(port):
            raise IllegalRedisUrl(f"Redis URL {hide_password(url)!r}: {item!r} is not host:port")
        hosts.append((host.strip("[]"), int(port)))
    tail = urlsplit("x://h" + place[len(hosts_text) :])
    settings: dict[str, Any] = {}
    if credentials:
        username, colon, password = credentials.partition(":")
        settings["password"] = unquote(password if colon else username)
        if colon and username:
            settings["username"] = unquote(username)
    if scheme.startswith("rediss"):
        settings["ssl"] = True
    options = {name: values[-1] for name, values in parse_qs(tail.query).items()}
    try:
        _check_tls_files(options)
    except ValueError as error:
        raise IllegalRedisUrl(f"Redis URL {hide_password(url)!r}: {error}") from None
    for name in _TLS_FILES:
        if name in options:
            settings[name] = options[name]
    if unknown := sorted(options.keys() - {*_TLS_FILES, "sentinel_username", "sentinel_password"}):
        raise IllegalRedisUrl(f"Redis URL {hide_password(url)!r}: there is no option {unknown[0]!r}")
    return hosts, settings, [part for part in tail.path.split("/") if part], options


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= 65535


def _sentinel(url: str, server: Server) -> PipedLink:
    hosts, settings, path, options = _parts(url)
    if not path:
        raise IllegalRedisUrl(f"Redis URL {hide_password(url)!r}: name the service, as in …:26379/mymaster")
    try:
        database = _database("/".join(path[1:]))
    except ValueError as error:
        raise IllegalRedisUrl(f"Redis URL {hide_password(url)!r}: {error}") from None
    sentinel_settings: dict[str, Any] = {
        **{name: value for name, value in settings.items() if name.startswith("ssl")},
        **{
            name: options[f"sentinel_{name}"]
            for name in ("username", "password")
            if f"sentinel_{name}" in options
        },
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": CONNECT_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
    }
    sentinel: Any = Sentinel(hosts, sentinel_kwargs=sentinel_settings)
    client = sentinel.master_for(
        path[0],
        connection_pool_class=_PoolOfThePrimary,
        db=database,
        max_connections=MAX_CONNECTIONS,
        **settings,
        **_connection_settings(server, "primary"),
    )
    return PipedLink(client, server)


class _PoolOfThePrimary(SentinelConnectionPool):
    """Connections to the primary that Sentinel names.

    When it names another, whoever still waits for the first learns that there will be no answer; redis-py's own pool
    lets them wait, and subscribers of a primary that stands still would be deaf for as long.
    """

    async def get_master_address(self) -> Any:
        before = cast("Any", self).master_address
        found: Any = await cast("Any", super()).get_master_address()
        if before not in (None, found):
            await self.disconnect()
        return found


def _cluster(url: str, server: Server) -> ClusterLink:
    hosts, settings, _, _ = _parts(url)
    connection_class = aioredis.SSLConnection if settings.pop("ssl", False) else aioredis.Connection

    def connect(address: Address) -> PipedLink:
        async def greet(connection: Any) -> None:
            # redis-py connects a subscription again before it says that it broke: to a server that was given up because
            # it stands still, that would never end.
            if not cluster.holds(address):
                raise RedisConnectionError("this server is no primary any more")
            await server.greet(connection, str(address))

        pool: Any = cast("Any", aioredis.BlockingConnectionPool)(
            connection_class=connection_class,
            host=address.host,
            port=address.port,
            max_connections=MAX_CONNECTIONS,
            timeout=None,
            **settings,
            **{**_connection_settings(server, str(address)), "redis_connect_func": greet},
        )
        return PipedLink(aioredis.Redis.from_pool(pool), server)  # which it owns: closed with the link

    cluster = ClusterLink([Address(host, port) for host, port in hosts], server, connect)
    return cluster
