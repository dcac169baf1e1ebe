"""Carries one request to one instance, and says what became of it."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import quote

import aiohttp
from yarl import URL

from mediaflow.telemetry import tracing
from mediaflow.web.placing import ACCOUNT_HEADER, PLACEMENT_HEADER, SLOT_ONLY

TRY_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 1.0
MAX_CONNECTIONS = 1000


class Request(NamedTuple):
    """A call to be placed; ``idempotency_key`` and ``account`` are None if the client sent none."""

    call_id: str
    body: bytes
    idempotency_key: str | None
    account: str | None = None


class Answer(NamedTuple):
    """What an instance answered, to be passed on as it is."""

    status: int
    body: bytes
    content_type: str
    retry_after: str | None


class NotConnected(Exception):
    """The instance was not reached: it cannot have done anything."""


class NoAnswer(Exception):
    """The instance was reached and did not answer: it may have done what it was asked."""


class Courier(Protocol):
    """How instances are asked; a test hands in another."""

    async def deliver(self, address: str, request: Request, *, slot_only: bool) -> Answer:
        """Ask the instance at ``host:port`` to place a call.

        Raises:
            NotConnected: It was not reached.
            NoAnswer: It was, and the answer is not known.
        """
        ...


class HttpCourier:
    """Asks over HTTP."""

    def __init__(self, client: aiohttp.ClientSession, api_token: str = "") -> None:
        """Ask with a client, which stays the caller's to close."""
        self._client = client
        self._headers = {"Content-Type": "application/json"}
        if api_token:
            self._headers["Authorization"] = f"Bearer {api_token}"

    async def deliver(self, address: str, request: Request, *, slot_only: bool) -> Answer:
        """Ask one instance; see :class:`Courier`."""
        attributes = {"call.id": request.call_id, "server.address": address, "http.request.method": "POST"}
        with tracing.span("place", "client", attributes) as span:
            answer = await self._place(address, request, slot_only=slot_only)
            span.status(answer.status)
            return answer

    async def _place(self, address: str, request: Request, *, slot_only: bool) -> Answer:
        key = {"Idempotency-Key": request.idempotency_key or ""}
        headers = {**self._headers, **key, **tracing.headers()}
        if slot_only:
            headers[PLACEMENT_HEADER] = SLOT_ONLY
        if request.account is not None:
            headers[ACCOUNT_HEADER] = quote(request.account, safe="")
        return await self._post(f"{address}/calls/{quote(request.call_id, safe='')}", request.body, headers)

    async def drain(self, address: str, instance_id: str) -> Answer:
        """Ask an instance to drain.

        Raises:
            NotConnected: It was not reached.
            NoAnswer: It was, and may drain or not.
        """
        return await self._post(
            f"{address}/instances/{quote(instance_id, safe='')}/drain", b"", self._headers
        )

    async def _post(self, place: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            async with self._client.post(
                URL(f"http://{place}", encoded=True), data=body, headers=headers
            ) as response:
                return Answer(
                    response.status,
                    await response.read(),
                    response.content_type,
                    response.headers.get("Retry-After"),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotConnected(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NoAnswer(str(error)) from error


def open_client() -> aiohttp.ClientSession:
    """Return the client by which a balancer asks instances; the caller closes it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=TRY_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
    )
