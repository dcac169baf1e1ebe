"""``POST /calls/{callId}``: read strictly and answered alike by a balancer and by an instance.

It is what a fleet is asked most, and it passes through two programs. So a request that came whole, and leaves no
question open, goes the short way (:mod:`mediaflow.web.express`); every other one the usual way, past all layers.
"""

import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from mediaflow.api.messages import CallAnswer
from mediaflow.api.metadata import Metadata
from mediaflow.api.streams import Refusal as StreamRefusal
from mediaflow.core import names
from mediaflow.telemetry import tracing
from mediaflow.web import auth, bodies, problems
from mediaflow.web.bodies import decode_once
from mediaflow.web.express import Answer, Errand, Headers
from mediaflow.web.problems import Handler, Refusal
from mediaflow.web.surface import CALL_ID, Parameter, Route, Surface

PLACEMENT_HEADER = "Mediaflow-Placement"
SLOT_ONLY = "slot"
"""As the value of that header: take the call into a free slot here and now, or refuse it."""

ACCOUNT_HEADER = "Mediaflow-Account"

_PREFIX = "/calls/"
_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "The same request repeated with the same key never makes a second session.",
    {"type": "string", "maxLength": 255},
)
_ACCOUNT = Parameter(
    ACCOUNT_HEADER,
    "header",
    "Whom the call counts for: it is one stream of the user of that name. Written as in a path: percent-encoded once.",
    {"type": "string", "minLength": 1},
)


class Head(NamedTuple):
    """What a request says before its body.

    Attributes:
        idempotency_key, account: None if the client sent none.
        placement: As it was sent, None if it was not.
    """

    call_id: str
    idempotency_key: str | None
    account: str | None
    placement: str | None

    @classmethod
    def of(cls, call_id: str, headers: Headers) -> "Head":
        """Read it.

        Raises:
            IllegalName: Call id or key breaks its grammar.
            Refusal: 400, a header is there twice, or is not as it should be.
        """
        return cls(
            names.check_call_id(call_id),
            bodies.sole_key(headers.getall("Idempotency-Key", ())),
            _account_of(headers),
            headers.get(PLACEMENT_HEADER),
        )


Place = Callable[[Head, Metadata], Awaitable[Answer]]
"""Places a call; what it raises is answered as a problem."""


def add_route(face: Surface, place: Place, *further: Parameter) -> None:
    """Have a surface place calls; ``further`` are parameters that it reads besides."""

    async def respond(request: web.Request) -> web.Response:
        head = Head.of(request.match_info["call_id"], request.headers)
        status, headers, body = await place(head, await bodies.read_metadata(request))
        return web.Response(status=status, headers=headers, body=body)

    face.add(placing_route(respond, *further))
    face.express = _short_way(face, place)


def _short_way(face: Surface, place: Place) -> Callable[[str, str, Headers], Errand | None]:
    token, route = face.settings.api_token, "/calls/{call_id}"

    def express(method: str, path: str, headers: Headers) -> Errand | None:
        if method != "POST" or not path.startswith(_PREFIX):
            return None
        call_id = path[len(_PREFIX) :]
        if not names.is_call_id(call_id) or not auth.is_plainly_welcome(headers, token):
            return None
        if "traceparent" in headers or tracing.has_use_for(""):
            return None

        async def errand(body: bytes) -> Answer:
            began_s = time.perf_counter()
            try:
                answer = await place(Head.of(call_id, headers), bodies.parse_metadata(body))
            except Exception as error:  # noqa: BLE001 - as by the layers of the usual way
                answer = _problem(
                    face.translate(error)
                    or problems.foreseen(error)
                    or problems.unforeseen(method, path, error)
                )
            face.metrics.observe_request(method, route, answer.status, time.perf_counter() - began_s)
            return answer

        return errand

    return express


def _problem(refusal: Refusal) -> Answer:
    told = problems.answer(refusal)
    return Answer(told.status, told.headers, told.body if isinstance(told.body, bytes) else b"")


def placing_route(handler: Handler, *further: Parameter) -> Route:
    """Return the route, which each program answers in its own way."""
    return Route(
        method="POST",
        path="/calls/{callId}",
        handler=handler,
        summary="Start a call, or find the session that it has; the body is its metadata.",
        answers={201: CallAnswer, 200: CallAnswer},
        refusals=(400, 401, 403, 409, 413, 422, 429, 503),
        problems={409: StreamRefusal},
        meanings={
            403: "The app's on_call refused the call for good, or a page of another origin asked: the problem says.",
            409: "The account has as many streams as it may have: nothing was changed.",
        },
        parameters=(CALL_ID, _KEY, _ACCOUNT, *further),
        takes_object=True,
        traced=True,
    )


def _account_of(headers: Headers) -> str | None:
    given = headers.getall(ACCOUNT_HEADER, ())
    if not given:
        return None
    if len(given) > 1:
        raise Refusal(400, f"{ACCOUNT_HEADER} is given {len(given)} times: send one")
    account = decode_once(ACCOUNT_HEADER, given[0])
    if not 1 <= len(account) <= 256 or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in account):
        raise Refusal(
            400,
            f"{ACCOUNT_HEADER} {account[:80]!r} is not allowed: use 1 to 256 characters, no control characters",
        )
    return account
