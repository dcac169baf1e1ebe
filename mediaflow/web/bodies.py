"""Reading requests strictly: what is not understood is refused, with the place where it went wrong."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web

from mediaflow.api.metadata import Metadata, encode_metadata
from mediaflow.core import names
from mediaflow.web.problems import Refusal

MAX_BODY_BYTES = 64 * 1024
READ_TIMEOUT_S = 10.0
MAX_LEVELS = 500
"""Below what each Python version's parser, and Lua's, can take in; how much that is differs between them."""

_BROKEN = re.compile("%(?![0-9A-Fa-f]{2})")


async def read_metadata(request: web.Request) -> Metadata:
    """Read an optional JSON object; no body at all counts as ``{}``.

    Raises:
        Refusal: 400, 408 or 413; nothing of the request was carried out.
    """
    return parse_metadata(await read(request))


def parse_metadata(body: bytes) -> Metadata:
    """Parse the bytes of a body; see :func:`read_metadata`."""
    return encode_metadata(parse_object(body))


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse the bytes of a body as a JSON object; no body at all counts as ``{}``.

    Raises:
        Refusal: 400.
    """
    if not body.strip():
        return {}
    try:
        found = msgspec.json.decode(body.decode())
        if not isinstance(found, dict):
            raise Refusal(400, f"the body is a JSON {_kind(found)}: send a JSON object, or no body")
        if len(body) > MAX_LEVELS and _is_deeper(cast("object", found), MAX_LEVELS):
            raise _too_deep()
        return cast("dict[str, Any]", found)
    except UnicodeDecodeError as error:
        raise Refusal(400, f"the body is not UTF-8: {error.reason} (byte {error.start})") from None
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> Refusal:
    return Refusal(400, f"the body is nested too deeply: use {MAX_LEVELS} levels at most")


def _is_deeper(found: object, levels: int) -> bool:
    """Tell whether objects and arrays are within each other more than so many times."""
    level = [found]
    for _ in range(levels + 1):
        if not level:
            return False
        level = [inner for one in level for inner in _containers_in(one)]
    return True


def _containers_in(found: object) -> list[object]:
    values: Iterable[object] = ()
    if isinstance(found, dict):
        values = cast("dict[str, object]", found).values()
    elif isinstance(found, list):
        values = cast("list[object]", found)
    return [one for one in values if isinstance(one, dict | list)]


def sole_key(given: Sequence[str]) -> str | None:
    """Return the one ``Idempotency-Key`` of those given, None if there is none.

    Raises:
        IllegalName: It breaks the grammar.
        Refusal: 400, it is there more than once.
    """
    if not given:
        return None
    if len(given) > 1:
        raise Refusal(400, f"Idempotency-Key is given {len(given)} times: send one")
    return names.check_idempotency_key(given[0])


def _kind(found: object) -> str:
    match found:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case _:
            return "array"


async def read(request: web.Request) -> bytes:
    """Read the body, whatever it is.

    Raises:
        Refusal: 400, 408 or 413.
    """
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise too_large(f"{request.content_length} bytes")
    if not request.can_read_body:
        return b""
    body = bytearray()
    try:
        if request.content.is_eof():  # it came with its head: nothing is to be waited for
            body += request.content.read_nowait()
        else:
            async with asyncio.timeout(READ_TIMEOUT_S):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        break
    except TimeoutError:
        raise Refusal(408, f"the body did not arrive within {READ_TIMEOUT_S:g} s") from None
    except web.RequestPayloadError as error:
        raise Refusal(400, f"the body could not be read: {error}") from None
    if len(body) > MAX_BODY_BYTES:
        raise too_large("too long")
    return bytes(body)


def too_large(size: str) -> Refusal:
    """Return the 413 of a body of that size."""
    return Refusal(413, f"the body is {size}: {MAX_BODY_BYTES} bytes at most are taken")


def decode_once(name: str, text: str) -> str:
    """Percent-decode a name, once and strictly.

    Raises:
        Refusal: 400, it is no percent-encoded UTF-8.
    """
    try:
        if not _BROKEN.search(text):
            return unquote_to_bytes(text.encode()).decode()
    except UnicodeError:
        pass
    raise Refusal(400, f"the {name} {text[:80]!r} is no percent-encoded UTF-8: encode it once")
