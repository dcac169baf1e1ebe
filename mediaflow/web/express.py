"""The short way for requests that came whole: past aiohttp's request, router, layers and response, not past its parser.

Those take four times what parsing does, and a start of a stream has to cost hardly more than that. So a surface may
answer some of its requests by itself: what is HTTP, and how long lines and headers may be, is decided by the same
parser; whatever is not plain (a body that is still on its way, or too long, or in chunks; ``Expect``; the last request
of a connection; a client that does not take its answers) goes the usual way, with all that bounds it.

:class:`~mediaflow.web.connections.Connection` carries it out.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_writer import _serialize_headers as serialize_headers  # pyright: ignore[reportPrivateUsage, reportUnknownVariableType]
from multidict import CIMultiDictProxy

from mediaflow.web.bodies import MAX_BODY_BYTES

Headers = CIMultiDictProxy[str]


class Answer(NamedTuple):
    """What is answered."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


Errand = Callable[[bytes], Awaitable[Answer]]
"""Given its body, answers one request."""

Express = Callable[[str, str, Headers], Errand | None]
"""Given method, path as it arrived and headers, returns what answers the request; None leaves it to aiohttp."""

EXPRESS = web.AppKey[Express]("express")
"""Of an application: what it answers the short way."""


def errand(express: Express, message: Any, payload: Any) -> Errand | None:
    """Return what answers a request that was parsed, None if it is to go the usual way."""
    plain = (
        isinstance(message, RawRequestMessage)
        and message.version == HttpVersion11
        and not (message.should_close or message.upgrade or message.chunked or message.compression)
        and payload.is_eof()
        and payload.total_bytes <= MAX_BODY_BYTES
        and hdrs.EXPECT not in message.headers
    )
    return express(message.method, message.path, message.headers) if plain else None


def serialized(answer: Answer) -> bytes:
    """Return an answer as it is sent.

    Raises:
        ValueError: A header holds a line end.
    """
    headers = dict(answer.headers)
    headers.setdefault(hdrs.DATE, rfc822_formatted_time())
    if answer.status != _NO_CONTENT:
        headers[hdrs.CONTENT_LENGTH] = str(len(answer.body))
    line = f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}"
    # aiohttp's own, in C, because it refuses line ends.
    return cast("bytes", serialize_headers(line, headers)) + answer.body  # pyright: ignore[reportArgumentType]


_NO_CONTENT = HTTPStatus.NO_CONTENT.value
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
