"""``GET /users/{userId}/streams``: what a user plays, and which rules leave no room for one more."""

import unicodedata

from aiohttp import web

from mediaflow.api.occupancy import UserStreams
from mediaflow.limiter.looking import StreamStore, look
from mediaflow.web.problems import Refusal
from mediaflow.web.surface import Parameter, Route, Surface, json_response

_LONGEST = 256


def add_routes(surface: Surface, store: StreamStore) -> None:
    """Add the request."""

    async def streams(request: web.Request) -> web.Response:
        return json_response(await look(store, surface.settings, _user_id(request)))

    surface.add(
        Route(
            method="GET",
            path="/users/{userId}/streams",
            handler=streams,
            summary="The live streams of a user, and what each rule of this program's settings counts of them.",
            answers={200: UserStreams},
            refusals=(400, 401, 503),
            parameters=(
                Parameter(
                    "userId",
                    "path",
                    "Name of the user.",
                    {"type": "string", "minLength": 1, "maxLength": _LONGEST},
                ),
            ),
        )
    )


def _user_id(request: web.Request) -> str:
    user_id = request.match_info["userId"]
    if not 1 <= len(user_id) <= _LONGEST or any(unicodedata.category(c) in ("Cc", "Cs") for c in user_id):
        raise Refusal(
            400, f"the userId {user_id[:80]!r} is not allowed: use 1 to 256 characters, no control characters"
        )
    return user_id
