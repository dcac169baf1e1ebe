"""Every error of an HTTP surface as problem details (RFC 9457), for people to act upon.

What nobody foresaw is a 500 that is logged with its traceback and answered without.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from mediaflow.api.messages import Problem
from mediaflow.api.streams import Refusal as StreamRefusal
from mediaflow.core.names import IllegalName
from mediaflow.limiter import StreamRefused, StreamThrottled
from mediaflow.store import NamespaceMismatch, NotDurable, StoreUnavailable

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_S = 1

STORE_UNAVAILABLE = "urn:mediaflow:problem:store-unavailable"
"""Type of the problem that Redis did not answer: another instance will hardly fare better."""

CALL_REFUSED = "urn:mediaflow:problem:call-refused"
"""Type of the problem that an instance does not want a call (503: another one may; 403: none will)."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = structlog.get_logger(__name__)


class Refusal(Exception):
    """An answer that is a problem.

    Args:
        status: HTTP status, 400 or above.
        detail: What was wrong, with what value, and what to do.
        retry_after_s: When asking again may help; sent as ``Retry-After``.
        type: URI of the kind of problem, where programs tell it from others (RFC 9457, section 3.1.1).
        headers: Further headers of the answer.
        body: The whole problem, where it tells more than status and detail.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after_s: int | None = None,
        type: str = "about:blank",  # noqa: A002 - as in the RFC
        headers: Mapping[str, str] | None = None,
        body: Problem | None = None,
    ) -> None:
        super().__init__(detail)
        self.body = body
        self.status = status
        self.detail = detail
        self.type = type
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(retry_after_s)


def unavailable(detail: str, *, type: str = "about:blank") -> Refusal:  # noqa: A002 - as in the RFC
    """Return a 503 that asks to come again."""
    return Refusal(503, detail, retry_after_s=RETRY_AFTER_S, type=type)


def answer(refusal: Refusal) -> web.Response:
    """Return the response that tells of a refusal."""
    problem = refusal.body or Problem(
        title=HTTPStatus(refusal.status).phrase,
        status=refusal.status,
        detail=refusal.detail,
        type=refusal.type,
    )
    return web.Response(
        status=refusal.status,
        body=msgspec.json.encode(problem),
        content_type=CONTENT_TYPE,
        headers=refusal.headers,
    )


def of_stream(error: Exception) -> Refusal | None:
    """Return what tells of a stream that may not play, None if the exception is no such thing."""
    match error:
        case StreamRefused():
            body = StreamRefusal(
                title=HTTPStatus.CONFLICT.phrase,
                status=409,
                detail=str(error),
                limit=error.limit,
                active=error.active,
                conflicts=error.conflicts,
                advice=error.advice,
            )
            return Refusal(409, str(error), body=body)
        case StreamThrottled():
            return Refusal(429, str(error), retry_after_s=max(1, math.ceil(error.retry_after_s)))
        case _:
            return None


def middleware(translate: Callable[[Exception], Refusal | None] = lambda _: None) -> Middleware:
    """Return the middleware that turns exceptions into problems.

    Args:
        translate: Looks at exceptions that only one program knows; None leaves one to the common rules.
    """

    @web.middleware
    async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refusal:
            return answer(refusal)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return answer(of_aiohttp(request, error))
        except ConnectionError:
            raise  # the client is gone: there is nobody to answer
        except Exception as error:  # noqa: BLE001 - the last line of defence of the surface
            return answer(
                translate(error) or foreseen(error) or unforeseen(request.method, request.path, error)
            )

    return problems


def of_aiohttp(request: web.BaseRequest, error: web.HTTPException) -> Refusal:
    """Return what tells of an error of aiohttp's own."""
    if isinstance(error, web.HTTPNotFound):
        return Refusal(404, f"there is nothing at {request.path!r}: /docs shows what there is")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Refusal(
            405,
            f"{request.method} is not possible at {request.path!r}: use {allowed}",
            headers={"Allow": allowed},
        )
    return Refusal(error.status, error.text or error.reason)


def foreseen(error: Exception) -> Refusal | None:
    """Return what tells of an exception that any program may meet, None if it is none of them."""
    match error:
        case Refusal():
            return error
        case IllegalName():
            return Refusal(400, str(error))
        case NotDurable():
            return unavailable(
                f"{error}; repeat the request with the same Idempotency-Key", type=STORE_UNAVAILABLE
            )
        case StoreUnavailable():
            return unavailable(f"{error}; the request may or may not have had effect", type=STORE_UNAVAILABLE)
        case NamespaceMismatch():
            return unavailable(str(error))
        case _:
            return None


def unforeseen(method: str, path: str, error: Exception) -> Refusal:
    """Log an exception that nobody foresaw, and return what tells of it without telling what it was."""
    _log.error("request failed", method=method, path=path, exc_info=error)
    return Refusal(500, "an unexpected error, which has been logged: please report it")
