"""The concurrency service as an AWS Lambda function behind an Application Load Balancer, as in the seed.

``handler`` is what Lambda calls; settings are ``MEDIAFLOW_*`` of its environment. The same endpoints answer as
in the program. One event loop, and with it the connections to Redis, lives on between the invocations of one
instance of the function; whatever broke while it was frozen is opened anew by the request that finds it broken.

Shapes of event and answer: Elastic Load Balancing's user guide, "Lambda functions as targets". A target group
with multi-value headers sends and wants ``multiValueHeaders``, another one ``headers``, never both.
"""

import asyncio
import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from mediaflow.concurrency.endpoints import Endpoints
from mediaflow.concurrency.exchange import Request, Response
from mediaflow.concurrency.identity import Identity
from mediaflow.limiter import StreamLimiter
from mediaflow.settings import Settings, load
from mediaflow.telemetry import logs
from mediaflow.web.bodies import MAX_BODY_BYTES, too_large
from mediaflow.web.health import Health
from mediaflow.web.problems import Refusal

HEALTH_PATHS = frozenset({"/healthz", "/readyz"})

Event = Mapping[str, Any]


class Service:
    """The endpoints with a loop of their own; one for each instance of the function."""

    def __init__(self, settings: Settings) -> None:
        """Open the limiter.

        Raises:
            SettingsError: A setting is wrong.
        """
        self._limiter = StreamLimiter(settings)
        self._endpoints = Endpoints(self._limiter, Identity(settings))
        self._runner = asyncio.Runner()
        self._runner.run(self._limiter.__aenter__())

    def answer(self, event: Event) -> dict[str, Any]:
        """Answer one event of a load balancer."""
        return _told(event, self._runner.run(self._respond(event)))

    async def _respond(self, event: Event) -> Response:
        # The function answers, so it is alive; that Redis is away takes no target out of service, because
        # it goes on answering then, as on_store_down says.
        if event["path"] in HEALTH_PATHS:
            return Response.of(Health("alive"))
        return await self._endpoints.respond(_value(event))

    def close(self) -> None:
        """Close connections and loop."""
        self._runner.run(self._limiter.__aexit__(None, None, None))
        self._runner.close()


_service: Service | None = None


def handler(event: Event, context: object) -> dict[str, Any]:
    """Answer an event of an Application Load Balancer; Lambda calls this."""
    del context
    global _service  # noqa: PLW0603 - what lives between invocations can only live in the module
    if _service is None:
        settings = load(environ=os.environ)
        logs.configure(settings.log_level, settings.log_format)
        _service = Service(settings)
    return _service.answer(event)


def _value(event: Event) -> Request:
    async def read() -> bytes:
        return _body(event)

    headers = _headers(event)

    def given(name: str) -> Sequence[str]:
        return headers.get(name.lower(), ())

    return Request(method=event["httpMethod"], path=event["path"], given=given, read=read)


def _headers(event: Event) -> dict[str, Sequence[str]]:
    several: Mapping[str, Sequence[str]] | None = event.get("multiValueHeaders")
    if several is not None:
        return {name.lower(): values for name, values in several.items()}
    single: Mapping[str, str] = event.get("headers") or {}
    return {name.lower(): [value] for name, value in single.items()}


def _body(event: Event) -> bytes:
    text = event.get("body") or ""
    try:
        body = base64.b64decode(text, validate=True) if event.get("isBase64Encoded") else text.encode()
    except (binascii.Error, UnicodeError) as error:
        raise Refusal(400, f"the body could not be read: {error}") from None
    if len(body) > MAX_BODY_BYTES:
        raise too_large(f"{len(body)} bytes")
    return body


def _told(event: Event, response: Response) -> dict[str, Any]:
    phrase = HTTPStatus(response.status).phrase
    told: dict[str, Any] = {
        "statusCode": response.status,
        "statusDescription": f"{response.status} {phrase}",
        "isBase64Encoded": False,
        "body": "" if event["httpMethod"] == "HEAD" else response.body.decode(),
    }
    if "multiValueHeaders" in event:
        told["multiValueHeaders"] = {name: [value] for name, value in response.headers.items()}
    else:
        told["headers"] = dict(response.headers)
    return told
