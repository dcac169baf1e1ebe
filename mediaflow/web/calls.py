"""What balancer and instance answer alike, from the store: calls, their history, and instances."""

from datetime import UTC, datetime
from typing import cast, get_args

import msgspec
from aiohttp import web

from mediaflow.api.messages import (
    CallList,
    CallView,
    EventView,
    History,
    InstanceList,
    InstanceView,
    SessionView,
)
from mediaflow.core import names
from mediaflow.store import CallRecord, Event, InstanceRecord, SessionRecord, SessionState, Store
from mediaflow.web.problems import Handler, Refusal
from mediaflow.web.surface import CALL_ID, Parameter, Route, Surface, json_response

STATES: tuple[str, ...] = get_args(SessionState)
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

_ANY = (400, 401, 503)
_FOREIGN = "No token is set, and a page of another origin asked."
_INSTANCE_ID = Parameter(
    "instanceId",
    "path",
    "Name of the instance.",
    {"type": "string", "pattern": r"^[A-Za-z0-9._~:@+\-]{1,64}$"},
)


class CallRoutes:
    """The handlers; :meth:`routes` is the table of them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def show(self, request: web.Request) -> web.Response:
        """Answer ``GET /calls/{callId}``."""
        call_id = call_id_of(request)
        found = await self._store.describe(call_id)
        if found is None:
            raise unknown_call(call_id)
        return json_response(call_view(found))

    async def end(self, request: web.Request) -> web.Response:
        """Answer ``DELETE /calls/{callId}``; of an ended call too."""
        call_id = call_id_of(request)
        if not await self._store.cancel(call_id, "cancelled over HTTP"):
            raise unknown_call(call_id)
        return web.Response(status=204)

    async def list(self, request: web.Request) -> web.Response:
        """Answer ``GET /calls?state=&cursor=&limit=``."""
        state, cursor = request.query.get("state") or None, request.query.get("cursor") or None
        if state is not None and state not in STATES:
            raise Refusal(400, f"state = {state!r}: use one of {', '.join(STATES)}")
        limit = _limit(request.query.get("limit") or str(DEFAULT_LIMIT))
        try:
            page = await self._store.calls(
                state=cast("SessionState | None", state), cursor=cursor, limit=limit
            )
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        return json_response(CallList(calls=[call_view(call) for call in page.calls], cursor=page.cursor))

    async def history(self, request: web.Request) -> web.Response:
        """Answer ``GET /calls/{callId}/history``; 404 if neither log nor store knows the call."""
        call_id = call_id_of(request)
        events = await self._store.history(call_id)
        if not events and await self._store.describe(call_id) is None:
            raise unknown_call(call_id)
        return json_response(History(events=[event_view(event) for event in events]))

    async def instances(self, _: web.Request) -> web.Response:
        """Answer ``GET /instances``: those whose heartbeat has not expired."""
        found = await self._store.instances()
        views = [instance_view(record) for record in found if record.alive]
        return json_response(InstanceList(instances=sorted(views, key=lambda view: view.instance_id)))

    def routes(self) -> tuple[Route, ...]:
        """Return the table of these requests."""
        return (
            Route(
                method="GET",
                path="/calls",
                handler=self.list,
                summary="List calls, a page at a time; a page may be short, cursor is null at the end.",
                answers={200: CallList},
                refusals=_ANY,
                parameters=(
                    Parameter("state", "query", "Only calls in this state.", {"enum": list(STATES)}),
                    Parameter("cursor", "query", "As the page before gave it.", {"type": "string"}),
                    Parameter(
                        "limit",
                        "query",
                        "Calls on a page.",
                        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
                    ),
                ),
            ),
            Route(
                method="GET",
                path="/calls/{callId}",
                handler=self.show,
                summary="Show a call with its sessions.",
                answers={200: CallView},
                refusals=(*_ANY, 404),
                parameters=(CALL_ID,),
            ),
            Route(
                method="DELETE",
                path="/calls/{callId}",
                handler=self.end,
                summary="End a call; ending an ended one changes nothing.",
                answers={204: None},
                refusals=(*_ANY, 403, 404),
                meanings={403: _FOREIGN},
                parameters=(CALL_ID,),
            ),
            Route(
                method="GET",
                path="/calls/{callId}/history",
                handler=self.history,
                summary="What happened to a call, as far back as the log goes.",
                answers={200: History},
                refusals=(*_ANY, 404),
                parameters=(CALL_ID,),
            ),
            Route(
                method="GET",
                path="/instances",
                handler=self.instances,
                summary="List live instances with their slots.",
                answers={200: InstanceList},
                refusals=(401, 503),
            ),
        )


def add_routes(surface: Surface, store: Store) -> None:
    """Add these requests to a surface."""
    surface.add(*CallRoutes(store).routes())


def draining_route(handler: Handler) -> Route:
    """Return the route of ``POST /instances/{instanceId}/drain``, which each program answers in its own way."""
    return Route(
        method="POST",
        path="/instances/{instanceId}/drain",
        handler=handler,
        summary="Have an instance take nothing new, hand its sessions off and end; asking again changes nothing.",
        answers={202: InstanceView},
        refusals=(401, 403, 404, 503),
        meanings={202: "It drains.", 403: _FOREIGN, 404: "There is no such instance, or it has left."},
        parameters=(_INSTANCE_ID,),
    )


def instance_id_of(request: web.Request) -> str:
    """Return the request's instance id, percent-decoded once; it may be none that any instance could have."""
    return request.match_info["instanceId"]


def unknown_instance(instance_id: str, where: str) -> Refusal:
    """Return the 404 of an instance that is not ``where`` it was asked for."""
    return Refusal(
        404, f"there is no instance {instance_id[:80]!r} {where}: GET /instances lists those there are"
    )


def call_id_of(request: web.Request) -> str:
    """Return the request's call id, percent-decoded once.

    Raises:
        IllegalName: It breaks the grammar.
    """
    return names.check_call_id(request.match_info["call_id"])


def unknown_call(call_id: str) -> Refusal:
    """Return the 404 of a call that the store does not know (any more)."""
    return Refusal(
        404, f"there is no call {call_id!r}: it never was, or it ended longer than the retention ago"
    )


def call_view(record: CallRecord) -> CallView:
    """Convert a call for the wire."""
    return CallView(
        call_id=record.call_id,
        state=record.state,
        sessions=[_session_view(session) for session in record.sessions],
    )


def instance_view(record: InstanceRecord) -> InstanceView:
    """Convert an instance for the wire."""
    return InstanceView(
        instance_id=record.instance_id,
        address=record.address or None,
        slots=record.slots,
        used=record.used,
        state=record.state,
        heartbeat_age_ms=record.heartbeat_age_ms,
        load=record.load,
        overloaded=record.overloaded,
    )


def event_view(event: Event) -> EventView:
    """Convert an event for the wire."""
    return EventView(
        id=event.event_id,
        at=rfc3339(event.at_ms),
        event=event.event,
        call_id=event.call_id or None,
        session_id=event.session_id or None,
        instance_id=event.instance_id or None,
        fence=event.fence or None,
        reason=event.reason or None,
    )


def rfc3339(at_ms: int) -> str:
    """Write milliseconds since the epoch as RFC 3339, UTC, to the millisecond."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _session_view(record: SessionRecord) -> SessionView:
    return SessionView(
        session_id=record.session_id,
        state=record.state,
        owner=record.instance_id or None,
        fence=record.fence,
        attempt=record.attempt,
        lease_remaining_ms=record.lease_remaining_ms,
        details=msgspec.Raw(record.details or b"{}"),
        created_at=rfc3339(record.created_at_ms),
        end_reason=record.end_reason or None,
    )


def _limit(given: str) -> int:
    if given.isascii() and given.isdigit() and len(given) < 6 and 1 <= int(given) <= MAX_LIMIT:
        return int(given)
    raise Refusal(400, f"limit = {given[:40]!r}: use 1 to {MAX_LIMIT}")
