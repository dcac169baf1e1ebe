"""One shared token in front of everything but health and the pages that ask a person for it.

Without a token, any page that somebody on this host opens could end calls: a browser sends a POST without a body
wherever a page likes, and only keeps the answer from it. So what changes something has to come from no page, or from
the program's own.
"""

import hmac
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Middleware
from yarl import URL

from mediaflow.web.problems import Handler, Refusal

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/console"})
OPEN_PREFIX = "/console/"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def middleware(token: str, exempt: tuple[str, ...] = ()) -> Middleware:
    """Return the middleware that asks for ``Authorization: Bearer <token>``.

    An empty token asks nothing but that no page of another origin changes anything.

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
        if not token and not request.path.startswith(exempt) and is_foreign(request):
            raise Refusal(
                403,
                f"a page of another origin ({request.headers.get('Origin', 'not named')[:80]!r}) asked a browser "
                f"for this {request.method}, and no token is set: set MEDIAFLOW_API_TOKEN and send it, or ask from "
                "a program",
            )
        return await handler(request)

    return authorized


def is_plainly_welcome(headers: Mapping[str, str], token: str) -> bool:
    """Tell whether a request is surely let in; False leaves it to :func:`middleware`, which says why it is not."""
    if not token:
        return "Origin" not in headers and "Sec-Fetch-Site" not in headers
    given = bearer(headers.get("Authorization", ""))
    return given is not None and same(given, token)


def is_foreign(request: web.BaseRequest) -> bool:
    """Tell whether a page of another origin had a browser send a request that may change something.

    Programs send neither header. ``Sec-Fetch-Site`` is believed first: no page can set it, and it is right behind a
    proxy that changes ``Host``; browsers leave it out towards plain http on another host.
    """
    if request.method in SAFE_METHODS:
        return False
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and not _same_host(origin, request.host)


def _same_host(origin: str, host: str) -> bool:
    try:
        theirs = URL(origin)
        ours = URL(f"{theirs.scheme}://{host}")
        return bool(theirs.host) and (theirs.host, theirs.port) == (ours.host, ours.port)
    except ValueError:
        return False


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
