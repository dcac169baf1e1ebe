"""Requests and responses as values, whoever brings them: aiohttp's server, or a load balancer's event."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Self

import msgspec

from mediaflow.web.express import Answer
from mediaflow.web.problems import CONTENT_TYPE as PROBLEM


class Request(NamedTuple):
    """A request.

    Attributes:
        path: As it arrived, percent-encoded, without the query.
        given: Returns the values of the header of a name, in order; how the name is written does not matter.
        read: Reads the body; raises :class:`~mediaflow.web.problems.Refusal` if it cannot be had.
    """

    method: str
    path: str
    given: Callable[[str], Sequence[str]]
    read: Callable[[], Awaitable[bytes]]


class Response(Answer):
    """An answer to a request."""

    __slots__ = ()

    @classmethod
    def of(cls, message: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Self:
        """Return a message as JSON; a problem if the status is one."""
        kind = PROBLEM if status >= 400 else "application/json"
        return cls(status, {"Content-Type": kind, **(headers or {})}, msgspec.json.encode(message))

    def plus(self, headers: Mapping[str, str]) -> Self:
        """Return the same with further headers; its own go before them."""
        return type(self)(self.status, {**headers, **self.headers}, self.body)
