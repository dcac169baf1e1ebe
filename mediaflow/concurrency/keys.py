"""The keys that verify bearer tokens: one from the settings, or a set (JWKS) from a file or a URL.

A set is kept and read again when it is old, or when a token names a key that it does not have; never more
often than :data:`REFRESH_AFTER_S`, so that forged tokens cannot make us ask. While its source is away the
set that we have goes on being used.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

from mediaflow.settings import Settings, SettingsError

STALE_AFTER_S = 300.0
REFRESH_AFTER_S = 10.0
FETCH_TIMEOUT_S = 3.0
MAX_SET_BYTES = 1 << 20
MIN_SECRET_BYTES = 32

_PRIVATE = "PRIVATE KEY-----"

Read = Callable[[], Awaitable[bytes]]

_log: Any = structlog.get_logger(__name__)


class KeysAway(Exception):
    """No key could be had; it is not the fault of the token."""


class Keys:
    """What may have signed a token. :meth:`matching` is asked with each."""

    def __init__(self, settings: Settings) -> None:
        """Read what is configured.

        Raises:
            SettingsError: There is no key in it, or one of a kind that is not accepted.
        """
        self._algorithms = settings.jwt_algorithms
        self._lock = asyncio.Lock()
        self._read: Read | None = None
        self._set: dict[str | None, list[jwt.PyJWK]] = {}
        self._read_at_s = self._tried_at_s = float("-inf")
        if settings.jwt_jwks:
            self._source = settings.jwt_jwks
            self._read = _reader(settings.jwt_jwks)
            if not _is_url(settings.jwt_jwks):
                self._set = _parse_file(settings.jwt_jwks, self._algorithms)
        else:
            self._fixed: Any = _fixed_key(settings.jwt_key, self._algorithms)

    async def matching(self, header: dict[str, Any]) -> list[Any]:
        """Return the keys that may have signed a token with this header, none if there is none.

        Raises:
            KeysAway: The set of keys was never to be had.
        """
        if self._read is None:
            return [self._fixed]
        key_id = header.get("kid")
        now_s = asyncio.get_running_loop().time()
        known = self._find(key_id)
        if (not known or now_s - self._read_at_s > STALE_AFTER_S) and not (known and self._lock.locked()):
            async with self._lock:
                await self._refresh(now_s)
            known = self._find(key_id)
        if not self._set:
            raise KeysAway(f"no key to verify bearer tokens could be read from {self._source}")
        return [key for key in known if key.algorithm_name == header.get("alg")]

    def _find(self, key_id: Any) -> list[jwt.PyJWK]:
        if key_id is None:
            return [key for keys in self._set.values() for key in keys]
        return self._set.get(key_id, []) if isinstance(key_id, str) else []

    async def _refresh(self, now_s: float) -> None:
        if self._read is None or now_s - self._tried_at_s < REFRESH_AFTER_S:
            return
        self._tried_at_s = now_s
        try:
            self._set = _parse_set(await self._read(), self._algorithms)
            self._read_at_s = now_s
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
            _log.warning("keys of bearer tokens could not be read", source=self._source, reason=str(error))


def _fixed_key(given: str, algorithms: tuple[str, ...]) -> Any:
    if "HS256" in algorithms:
        if len(given.encode()) < MIN_SECRET_BYTES:
            raise SettingsError(
                f"jwt_key = (hidden) is a secret of {len(given.encode())} bytes: "
                f"HS256 needs {MIN_SECRET_BYTES} or more (RFC 7518, section 3.2)"
            )
        return given
    try:
        pem = given.replace("\\n", "\n") if "-----BEGIN" in given else Path(given).expanduser().read_text()
        key = _public_key(pem)
        for algorithm in algorithms:
            if _fits(key, algorithm):
                return jwt.PyJWK.from_dict(_as_jwk(key, algorithm), algorithm)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"jwt_key: {reason}; give a public key as PEM, or the path of a file") from None
    raise SettingsError(f"jwt_key is no key for {', '.join(algorithms)}: give a key of that kind")


def _public_key(pem: str) -> Any:
    if _PRIVATE in pem:
        raise ValueError("it is a private key, which belongs to the issuer alone")
    if "CERTIFICATE-----" in pem:
        return load_pem_x509_certificate(pem.encode()).public_key()
    return load_pem_public_key(pem.encode())


def _fits(key: Any, algorithm: str) -> bool:
    implementation: Any = jwt.get_algorithm_by_name(algorithm)
    try:
        implementation.prepare_key(key)
    except (TypeError, ValueError, jwt.InvalidKeyError):
        return False
    return True


def _as_jwk(key: Any, algorithm: str) -> dict[str, Any]:
    implementation: Any = jwt.get_algorithm_by_name(algorithm)
    return implementation.to_jwk(key, as_dict=True)


def _parse_set(document: bytes, algorithms: tuple[str, ...]) -> dict[str | None, list[jwt.PyJWK]]:
    """Return the keys of a set that may be used, by their id.

    Raises:
        ValueError: It is none, or has no such key.
    """
    found: dict[str | None, list[jwt.PyJWK]] = {}
    for one in msgspec.json.decode(document, type=dict[str, list[dict[str, Any]]]).get("keys", []):
        if one.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK.from_dict(one)
        except (jwt.PyJWTError, ValueError):
            continue  # of a kind that we do not know: others may be there for us
        if key.algorithm_name in algorithms:
            found.setdefault(key.key_id, []).append(key)
    if not found:
        raise ValueError(f"there is no key for {', '.join(algorithms)} in it")
    return found


def _parse_file(path: str, algorithms: tuple[str, ...]) -> dict[str | None, list[jwt.PyJWK]]:
    try:
        return _parse_set(Path(path).expanduser().read_bytes(), algorithms)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(
            f"jwt_jwks = {path!r}: {reason}; give a set of keys (JWKS), by URL or path"
        ) from None


def _is_url(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def _reader(source: str) -> Read:
    if not _is_url(source):
        path = Path(source).expanduser()

        async def from_file() -> bytes:
            return await asyncio.to_thread(path.read_bytes)

        return from_file

    async def from_url() -> bytes:
        timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as client, client.get(source) as answer:
            answer.raise_for_status()
            document = bytearray()
            async for chunk in answer.content.iter_any():
                document += chunk
                if len(document) > MAX_SET_BYTES:
                    raise ValueError(f"it is longer than {MAX_SET_BYTES} bytes")
            return bytes(document)

    return from_url
