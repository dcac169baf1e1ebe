"""One shared token in front of everything but health and the pages that ask a person for it."""

import hmac

from aiohttp import web
from aiohttp.typedefs import Middleware

from mediaflow.web.problems import Handler, Refusal

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/console"})
OPEN_PREFIX = "/console/"


def middleware(token: str, exempt: tuple[str, ...] = ()) -> Middleware:
    """Return the middleware that asks for ``Authorization: Bearer <token>``; an empty token asks nothing.

    Args:
        token: What is asked for.
        exempt: Prefixes of paths that look after themselves.
    """

    @web.middleware
    async def authorized(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token and not is_open(request.path) and not request.path.startswith(exempt):
            given = bearer(request.headers.get("Authorization", ""))
            if given is None or not same(given, token):
                raise Refusal(
                    401,
                    "this needs the header Authorization: Bearer with the token of MEDIAFLOW_API_TOKEN",
                    headers={"WWW-Authenticate": 'Bearer realm="mediaflow"'},
                )
        return await handler(request)

    return authorized


def bearer(header: str) -> str | None:
    """Return the token of an ``Authorization`` header, None if it is of another scheme."""
    scheme, _, given = header.partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None


def same(given: str, expected: str) -> bool:
    """Compare two secrets in a time that does not tell where they differ."""
    # Bytes that are no UTF-8 arrive as half characters in headers, and in the environment alike.
    return hmac.compare_digest(
        given.encode(errors="surrogateescape"), expected.encode(errors="surrogateescape")
    )


def is_open(path: str) -> bool:
    """Tell whether a path is served without a token."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIX)
