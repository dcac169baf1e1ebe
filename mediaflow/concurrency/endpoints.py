"""The concurrency service without a server: a request as a value in, a response out.

Whatever happens is answered, with problem details (RFC 9457) where it is not what was asked for. Players run on
pages of other origins, so any origin may ask; no cookie is looked at, so none is given away by that.
"""

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import datetime
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import msgspec

from mediaflow.api.messages import Problem
from mediaflow.api.streams import Ended, LimitRequest, StartRequest, StreamAnswer
from mediaflow.concurrency import operations
from mediaflow.concurrency.exchange import Request, Response
from mediaflow.concurrency.identity import Caller, Identity
from mediaflow.concurrency.keys import KeysAway
from mediaflow.limiter import (
    StreamEnded,
    StreamKeyConflict,
    StreamLimiter,
    StreamRefused,
    StreamUnknown,
)
from mediaflow.web import bodies, problems
from mediaflow.web.bodies import decode_once
from mediaflow.web.problems import Refusal
from mediaflow.web.surface import Operation

_PARAMETER = re.compile(r"\{(\w+)\}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
MAX_CODES = 100
KEYS_FRESH_S = 300

_NO_STORE = {"Cache-Control": "no-store"}
_ANY_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Date, Expires, Location, Retry-After",
}
_START_REQUEST = msgspec.json.Decoder(StartRequest)
_EVERYWHERE = _ANY_ORIGIN | _NO_STORE
_PREFLIGHT = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, X-Terminate",
    "Access-Control-Max-Age": "7200",
}

_TO_SECONDS = len("2026-01-01T00:00:00")

Parameters = Mapping[str, str]
Message = TypeVar("Message", StartRequest, LimitRequest)


class Endpoint(NamedTuple):
    """An operation, and what carries it out; path parameters are still percent-encoded.

    Attributes:
        path: Matches the operation's paths whole, its parameters by name.
    """

    operation: Operation
    carry_out: Callable[[Request, Parameters], Awaitable[Response]]
    path: re.Pattern[str]

    @classmethod
    def of(
        cls, operation: Operation, carry_out: Callable[[Request, Parameters], Awaitable[Response]]
    ) -> Self:
        """Return it with its path made a pattern."""
        texts_and_names = enumerate(_PARAMETER.split(operation.path))
        pattern = "".join(
            f"(?P<{part}>[^/]*)" if index % 2 else re.escape(part) for index, part in texts_and_names
        )
        return cls(operation, carry_out, re.compile(pattern))


class Endpoints:
    """The service around a limiter. :meth:`respond` answers any request; :attr:`table` is what there is."""

    def __init__(self, limiter: StreamLimiter, identity: Identity) -> None:
        """Take a limiter that is open while requests are answered."""
        self._limiter = limiter
        self._identity = identity
        self.table = (
            Endpoint.of(operations.START, self._start),
            Endpoint.of(operations.LIST, self._list),
            Endpoint.of(operations.BEAT, self._beat),
            Endpoint.of(operations.BEAT_BY_POST, self._beat),
            Endpoint.of(operations.STOP, self._stop),
            Endpoint.of(operations.STOP_BY_POST, self._stop_by_id),
            Endpoint.of(operations.LIMIT, self._set_limit),
            Endpoint.of(operations.KEYS, self._keys),
        )
        self._by_method: dict[str, list[Endpoint]] = {}
        for endpoint in self.table:
            self._by_method.setdefault(endpoint.operation.method, []).append(endpoint)

    def find(self, method: str, path: str) -> tuple[Endpoint, Parameters] | None:
        """Return what answers such requests, and what the path says; None if nothing does, or only for others."""
        for endpoint in self._by_method.get(method, ()):
            if found := endpoint.path.fullmatch(path):
                return endpoint, found.groupdict()
        return None

    def carry_out(
        self, endpoint: Endpoint, request: Request, parameters: Parameters
    ) -> Coroutine[Any, Any, Response]:
        """Answer a request by what was found for it."""
        return self._answered(request, endpoint.carry_out(request, parameters))

    def respond(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Answer a request."""
        return self._answered(request, self._dispatch(request))

    async def _answered(self, request: Request, work: Awaitable[Response]) -> Response:
        try:
            response = await work
        except ConnectionError:
            raise  # the client is gone: there is nobody to answer
        except Exception as error:  # noqa: BLE001 - the last line of defence
            response = _tell(request, error)
        return response.plus(_EVERYWHERE)

    async def _dispatch(self, request: Request) -> Response:
        wanted = "GET" if request.method == "HEAD" else request.method
        allowed: list[str] = []
        for endpoint in self.table:
            found = endpoint.path.fullmatch(request.path)
            if found is None:
                continue
            if endpoint.operation.method == wanted:
                return await endpoint.carry_out(request, found.groupdict())
            allowed += [endpoint.operation.method, *(["HEAD"] if endpoint.operation.method == "GET" else [])]
        if not allowed:
            raise Refusal(404, f"there is nothing at {request.path[:200]!r}: /docs shows what there is")
        methods = ", ".join(sorted({*allowed, "OPTIONS"}))
        if request.method == "OPTIONS":
            return Response(
                status=204, headers={"Allow": methods, "Access-Control-Allow-Methods": methods, **_PREFLIGHT}
            )
        raise Refusal(
            405,
            f"{request.method[:20]} is not possible at {request.path[:200]!r}: use {methods}",
            headers={"Allow": methods},
        )

    async def _start(self, request: Request, parameters: Parameters) -> Response:
        user_id, caller = await self._asking(request, parameters)
        key = bodies.sole_key(request.given("Idempotency-Key"))
        wanted = _start_request(await request.read(), caller)
        codes = _codes(wanted, request)
        try:
            answer = await self._limiter.start(
                user_id,
                wanted.device_id,
                wanted.metadata,
                on_limit=wanted.on_limit,
                terminate=codes,
                replaces=wanted.replaces,
                idempotency_key=key,
                limit=caller.limit,
            )
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        location = f"/v1/users/{quote(user_id, safe='')}/streams/{answer.stream_id}"
        return _playing(answer, 201, {"Location": location})

    async def _beat(self, request: Request, parameters: Parameters) -> Response:
        user_id, caller = await self._asking(request, parameters)
        stream_id = decode_once("streamId", parameters["streamId"])
        return _playing(await self._limiter.heartbeat(user_id, stream_id, limit=caller.limit))

    async def _stop(self, request: Request, parameters: Parameters) -> Response:
        await self._asking(request, parameters)
        return await self._stop_by_id(request, parameters)

    async def _stop_by_id(self, _: Request, parameters: Parameters) -> Response:
        # The id is signed for the user of the path: whoever has it was given it, or was shown it.
        await self._limiter.stop(_user_id(parameters), decode_once("streamId", parameters["streamId"]))
        return Response(status=204)

    async def _list(self, request: Request, parameters: Parameters) -> Response:
        user_id, caller = await self._asking(request, parameters)
        return Response.of(await self._limiter.list(user_id, limit=caller.limit))

    async def _set_limit(self, request: Request, parameters: Parameters) -> Response:
        self._identity.require_api_token(request.given("Authorization"))
        user_id = _user_id(parameters)
        wanted = _converted(bodies.parse_object(await request.read()), LimitRequest)
        await self._limiter.set_limit(user_id, wanted.limit)
        return Response(status=204)

    async def _keys(self, _: Request, __: Parameters) -> Response:
        found = await self._limiter.jwks()
        fresh = {"Cache-Control": f"public, max-age={KEYS_FRESH_S}"} if found["keys"] else {}
        return Response.of(found, headers=fresh)

    async def _asking(self, request: Request, parameters: Parameters) -> tuple[str, Caller]:
        """Return the user of the path and who asks, if those are the same or the asker is believed."""
        caller = self._identity.anybody or await self._identity.caller(request.given("Authorization"))
        user_id = _user_id(parameters)
        if caller.user_id not in (None, user_id):
            raise Refusal(404, "the path names another user than the token: there is nothing of yours")
        return user_id, caller


def _user_id(parameters: Parameters) -> str:
    user_id = decode_once("userId", parameters["userId"])
    if not 1 <= len(user_id) <= 256 or _CONTROL.search(user_id):
        raise Refusal(
            400, f"the userId {user_id[:80]!r} is not allowed: use 1 to 256 characters, no control characters"
        )
    return user_id


def _start_request(body: bytes, caller: Caller) -> StartRequest:
    if caller.device_id is None and len(body) <= bodies.MAX_LEVELS:
        try:
            return _START_REQUEST.decode(body.decode())
        except (msgspec.DecodeError, ValueError):
            pass  # what is wrong, if it is, is told below
    found = bodies.parse_object(body)
    if caller.device_id is not None:
        found["deviceId"] = caller.device_id
    return _converted(found, StartRequest)


def _converted(found: dict[str, Any], kind: type[Message]) -> Message:
    # To JSON, and so to our own schema, 3.0 is a whole number.
    plain = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in found.items()
    }
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise Refusal(400, f"the body is not as it should be: {error}") from None


def _codes(wanted: StartRequest, request: Request) -> list[str]:
    lines = request.given("X-Terminate")
    if not lines and not wanted.terminate:
        return []
    given = [code.strip() for line in lines for code in line.split(",")]
    codes = list(dict.fromkeys([*wanted.terminate, *filter(None, given)]))
    if len(codes) > MAX_CODES:
        raise Refusal(400, f"{len(codes)} codes to terminate: {MAX_CODES} at most are taken")
    return codes


def _playing(answer: StreamAnswer, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    expires_s = (
        _seconds(answer.expires_at[:_TO_SECONDS]) + int(answer.expires_at[_TO_SECONDS + 1 : -1]) / 1000
    )
    # Both by the clock that counts, which is Redis', so that their difference is right for any client.
    now_s = expires_s - answer.ttl_ms / 1000
    dates = {"Date": _http_date(int(now_s)), "Expires": _http_date(int(expires_s))}
    return Response.of(answer, status, {**dates, **_NO_STORE, **(headers or {})})


@lru_cache(maxsize=16)
def _seconds(date: str) -> int:
    return int(datetime.fromisoformat(date + "+00:00").timestamp())


@lru_cache(maxsize=16)
def _http_date(at_s: int) -> str:
    return formatdate(at_s, usegmt=True)


def _tell(request: Request, error: Exception) -> Response:
    match error:
        case StreamRefused():
            refusal = problems.of_stream(error)
            return Response.of(refusal and refusal.body, 409)
        case StreamEnded():
            return Response.of(Ended(**_problem(410, str(error)), terminated_by=error.terminated_by), 410)
        case _:
            refusal = _translate(error) or problems.foreseen(error)
            refusal = refusal or problems.unforeseen(request.method, request.path, error)
            return Response.of(
                Problem(**_problem(refusal.status, refusal.detail)), refusal.status, refusal.headers
            )


def _translate(error: Exception) -> Refusal | None:
    match error:
        case KeysAway():
            return problems.unavailable(str(error))
        case StreamUnknown():
            return Refusal(404, str(error))
        case StreamKeyConflict():
            return Refusal(422, str(error))
        case _:
            return problems.of_stream(error)


def _problem(status: int, detail: str) -> dict[str, Any]:
    return {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
