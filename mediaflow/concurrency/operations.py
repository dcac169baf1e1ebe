"""What the concurrency service answers, as OpenAPI describes it: the table of its contract."""

from mediaflow.api.streams import Ended, LimitRequest, Refusal, StartRequest, StreamAnswer, StreamList
from mediaflow.web.surface import Operation, Parameter

USER = "/v1/users/{userId}"
STREAMS = USER + "/streams"
STREAM = STREAMS + "/{streamId}"

_USER_ID = Parameter(
    "userId",
    "path",
    "Who plays; percent-encoded once. Any characters but control characters.",
    {"type": "string", "minLength": 1, "maxLength": 256, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$"},
)
_STREAM_ID = Parameter(
    "streamId", "path", "As the answer to the start gave it.", {"type": "string", "minLength": 1}
)
_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "The same request repeated with the same key never begins a second stream.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!-~]+$"},
)
_TERMINATE = Parameter(
    "X-Terminate",
    "header",
    "Termination codes, as terminate in the body; with commas between, or repeated.",
    {"type": "string"},
)
_PLAYING = ("Date", "Expires", "Cache-Control")
_AGAIN = ("Retry-After",)
_NOT_THERE = "The user never had such a stream, or is another's."

START = Operation(
    method="POST",
    path=STREAMS,
    summary="Begin a stream; with one too many, say which are in the way.",
    answers={201: StreamAnswer},
    refusals=(400, 401, 404, 408, 409, 413, 422, 429, 503),
    problems={409: Refusal},
    meanings={
        201: "It may play until expiresAt, and longer with heartbeats.",
        404: "The path names another user than the token.",
        409: "One stream too many: nothing was changed.",
    },
    headers={201: ("Location", *_PLAYING), 429: _AGAIN, 503: _AGAIN},
    parameters=(_USER_ID, _KEY, _TERMINATE),
    body=StartRequest,
    example={"deviceId": "tv", "metadata": {"channel": "one"}},
)


def _beat(method: str) -> Operation:
    return Operation(
        method="PUT" if method == "PUT" else "POST",
        path=STREAM,
        summary="Heartbeat: it still plays. Any body, or none.",
        answers={200: StreamAnswer},
        refusals=(400, 401, 404, 410, 429, 503),
        problems={410: Ended},
        meanings={200: "It may play on.", 404: _NOT_THERE, 410: "It is over; terminatedBy says by whom."},
        headers={200: _PLAYING, 429: _AGAIN, 503: _AGAIN},
        parameters=(_USER_ID, _STREAM_ID),
    )


BEAT, BEAT_BY_POST = _beat("PUT"), _beat("POST")


def _stop(method: str, path: str, refusals: tuple[int, ...], summary: str) -> Operation:
    return Operation(
        method="DELETE" if method == "DELETE" else "POST",
        path=path,
        summary=summary,
        answers={204: None},
        refusals=refusals,
        problems={410: Ended},
        meanings={204: "It is over.", 404: _NOT_THERE, 410: "It was over already."},
        headers={503: _AGAIN},
        parameters=(_USER_ID, _STREAM_ID),
        open=401 not in refusals,
    )


STOP = _stop("DELETE", STREAM, (400, 401, 404, 410, 503), "End a stream.")
STOP_BY_POST = _stop(
    "POST",
    STREAM + "/stop",
    (400, 404, 410, 503),
    "End a stream, as navigator.sendBeacon can: any body, and the signed stream id is authorization enough.",
)

LIST = Operation(
    method="GET",
    path=STREAMS,
    summary="List the live streams of a user, oldest first.",
    answers={200: StreamList},
    refusals=(400, 401, 404, 503),
    meanings={404: "The path names another user than the token."},
    headers={200: ("Cache-Control",), 503: _AGAIN},
    parameters=(_USER_ID,),
)

LIMIT = Operation(
    method="PUT",
    path=USER + "/limits",
    summary="Set how many streams a user may play at once; null goes back to the setting.",
    answers={204: None},
    refusals=(400, 401, 408, 413, 503),
    headers={503: _AGAIN},
    parameters=(_USER_ID,),
    body=LimitRequest,
    example={"limit": 2},
)

KEYS = Operation(
    method="GET",
    path="/.well-known/jwks.json",
    summary="The public keys that verify the token of an answer (RFC 7517).",
    answers={200: "application/json"},
    open=True,
)

__all__ = ["BEAT", "BEAT_BY_POST", "KEYS", "LIMIT", "LIST", "START", "STOP", "STOP_BY_POST"]
