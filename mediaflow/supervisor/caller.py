"""The client's side of the contract: POST with an Idempotency-Key, and again when nothing came back.

No answer means that the call may or may not have been placed (G2); asking again with the same key finds
out, and never makes a second session. A refusal is an answer: it is reported, not argued with.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import msgspec

from mediaflow.api.messages import (
    CallAnswer,
    CallList,
    CallView,
    EventView,
    History,
    InstanceList,
    InstanceView,
    Problem,
)

_T = TypeVar("_T")

PAGE = 200
_MOST_CONNECTIONS = 64
_SILENCE_S = 40.0
"""A feed of events that says nothing for so long, not even that it is still there, is broken."""


class Unreachable(Exception):
    """Nothing answers at the address, or not as mediaflow does; the message is for people."""


class NotThere(Unreachable):
    """What was asked for does not exist; the message says so."""


class Placed(NamedTuple):
    """What became of one POST.

    Attributes:
        status: HTTP status of the last answer; 0 if none came before the deadline.
        latency_s: From the first try to the answer.
        tries: How often it was sent.
        answer: With a 2xx status.
        problem: Else, one line on why.
    """

    call_id: str
    status: int
    latency_s: float
    tries: int
    answer: CallAnswer | None
    problem: str

    @property
    def accepted(self) -> bool:
        """The call will be assigned."""
        return self.answer is not None


class Caller:
    """A client of a balancer or of a single instance, for as long as the context lasts.

    Args:
        url: ``http://host:port``.
        api_token: Sent as ``Authorization: Bearer``; empty sends none.
        try_s: How long one try waits for an answer.
        deadline_s: How long a request is repeated.
    """

    def __init__(
        self, url: str, *, api_token: str = "", try_s: float = 8.0, deadline_s: float = 30.0
    ) -> None:
        self.url = url.rstrip("/")
        self._try_s = try_s
        self._deadline_s = deadline_s
        self._headers = {"Authorization": f"Bearer {api_token}"} if api_token else {}
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connections' pool."""
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_MOST_CONNECTIONS),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._try_s),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        if self._http is not None:
            await self._http.close()

    async def place(
        self, call_id: str, metadata: Mapping[str, Any] | None = None, *, patient: bool = False
    ) -> Placed:
        """Ask for a call to be processed.

        Args:
            call_id: Its name.
            metadata: A JSON object for the handler.
            patient: Take a 503 for a "not yet", and ask again until the deadline.
        """
        headers = {"Idempotency-Key": uuid4().hex}
        body = msgspec.json.encode(metadata or {})
        began = time.monotonic()
        tries = 0
        answer: CallAnswer | None = None
        while True:
            tries += 1
            status, found = await self._ask("POST", f"/calls/{call_id}", body, headers)
            if 200 <= status < 300:
                try:
                    answer, problem = _decode(found, CallAnswer), ""
                except Unreachable as error:
                    problem = str(error)
                break
            problem = self._problem(status, found)
            over = time.monotonic() - began + 0.2 >= self._deadline_s
            if over or not (status == 0 or (patient and status == 503)):
                break
            await asyncio.sleep(0.2)
        return Placed(call_id, status, time.monotonic() - began, tries, answer, problem)

    async def end(self, call_id: str) -> bool:
        """End a call; True if it is ended or not known, False if nobody said so before the deadline."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deadline_s):
                while True:
                    status, _ = await self._ask("DELETE", f"/calls/{call_id}")
                    if status in (204, 404):
                        return True
                    await asyncio.sleep(0.2)
        return False

    async def look(self, call_id: str) -> CallView | None:
        """Return a call; None if it is not known.

        Raises:
            Unreachable: There was no usable answer.
        """
        status, found = await self._ask("GET", f"/calls/{quote(call_id, safe='')}")
        if status == 404:
            return None
        return self._understood(status, found, CallView)

    async def history(self, call_id: str) -> list[EventView]:
        """Return what happened to a call, oldest first.

        Raises:
            NotThere: The call is not known.
            Unreachable: There was no usable answer.
        """
        status, found = await self._ask("GET", f"/calls/{quote(call_id, safe='')}/history")
        return self._understood(status, found, History).events

    async def calls(self, state: str | None = None, *, page: int = PAGE) -> AsyncIterator[CallView]:
        """Give all calls, or those in a state, page by page.

        Raises:
            Unreachable: A page was not answered.
        """
        cursor: str | None = None
        while True:
            query = (
                {"limit": str(page)}
                | ({"cursor": cursor} if cursor else {})
                | ({"state": state} if state else {})
            )
            status, found = await self._ask("GET", "/calls", query=query)
            listed = self._understood(status, found, CallList)
            for call in listed.calls:
                yield call
            if listed.cursor is None:
                return
            cursor = listed.cursor

    async def instances(self) -> list[InstanceView]:
        """Return the instances.

        Raises:
            Unreachable: There was no usable answer.
        """
        status, found = await self._ask("GET", "/instances")
        return self._understood(status, found, InstanceList).instances

    async def drain(self, instance_id: str) -> InstanceView:
        """Have an instance drain, and return it as it is then; it may be asked again and again.

        Raises:
            NotThere: There is no such instance.
            Unreachable: There was no usable answer; it may or may not drain.
        """
        status, found = await self._ask("POST", f"/instances/{quote(instance_id, safe='')}/drain")
        return self._understood(status, found, InstanceView)

    async def events(self, after: str = "") -> AsyncIterator[EventView | None]:
        """Give events as they happen, on one connection; None once it is open, and for each sign of life.

        Args:
            after: Begin behind the event of this id; empty begins with what happens from now on.

        Raises:
            Unreachable: The connection could not be made, or broke.
        """
        if self._http is None:
            raise RuntimeError("enter the context first")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._try_s, sock_read=_SILENCE_S)
        headers = {"Last-Event-ID": after} if after else {}
        try:
            async with self._http.get(f"{self.url}/events", headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    self._understood(response.status, await response.read(), Problem)
                name = ""
                async for line in response.content:
                    field, _, value = line.rstrip(b"\r\n").partition(b": ")
                    if line.startswith(b":"):
                        yield None
                    elif field == b"event":
                        name = value.decode("utf-8", "replace")
                    elif field == b"data" and name != "reset":
                        yield _decode(value, EventView)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"the events of {self.url} broke off: {_reason(error)}") from None
        raise Unreachable(f"the events of {self.url} ended")

    async def check(self) -> None:
        """Look whether a program of mediaflow answers.

        Raises:
            Unreachable: It does not; the message says what to do.
        """
        status, found = await self._ask("GET", "/healthz")
        if status != 200:
            raise Unreachable(
                f"no balancer at {self.url}: {self._problem(status, found)}; "
                "start one with `mediaflow up`, or name another with --url"
            )

    def _understood(self, status: int, body: bytes, kind: type[_T]) -> _T:
        """Return the body of an answer that is a 2xx.

        Raises:
            NotThere: It is a 404.
            Unreachable: It is none, or another refusal.
        """
        if status == 404:
            raise NotThere(
                _detail(body) or f"there is nothing of that kind at {self.url}: is that mediaflow?"
            )
        if not 200 <= status < 300:
            raise Unreachable(f"{self.url}: {self._problem(status, body)}")
        return _decode(body, kind)

    def _problem(self, status: int, body: bytes) -> str:
        if status == 0:
            return body.decode("utf-8", "replace")
        if status == 401:
            return (
                "401: the token of MEDIAFLOW_API_TOKEN is not the one that it wants"
                if self._headers
                else "401: it wants a token: set MEDIAFLOW_API_TOKEN to the one that it was started with"
            )
        detail = _detail(body)
        return (
            f"{status}: {detail}"
            if detail
            else f"HTTP status {status} without a problem body: is that mediaflow?"
        )

    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one request; status 0 and the reason if there is no answer."""
        if self._http is None:
            raise RuntimeError("enter the context first")
        kind = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with self._http.request(
                method, self.url + path, data=body, headers={**kind, **(headers or {})}, params=query
            ) as response:
                return response.status, await response.read()
        except TimeoutError:
            return 0, f"no answer within {self._try_s:g} s".encode()
        except (aiohttp.InvalidURL, ValueError):  # the latter, where it cannot even be encoded
            return 0, b"that is not an address: give http://host:port"
        except (aiohttp.ClientError, OSError) as error:
            return 0, _reason(error).encode()


def _reason(error: Exception) -> str:
    cause = getattr(error, "os_error", None) or error
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _detail(body: bytes) -> str:
    """Return what a problem says; empty if it is none."""
    try:
        return msgspec.json.decode(body, type=Problem).detail
    except (msgspec.MsgspecError, ValueError):
        return ""


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Unreachable(f"an answer that is not mediaflow's: {error}") from None
