"""Who asks: nobody checks (the seed allows that), one token for all, or a bearer token (JWT) for each user.

Whoever knows the API token is believed, as a back end is that starts streams for its users. A user's token
speaks for that user alone: what it claims goes before path and payload, and what is another's is not found.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jwt

from mediaflow.concurrency.keys import Keys
from mediaflow.settings import Settings
from mediaflow.web import auth
from mediaflow.web.problems import Refusal

CLOCK_LEEWAY_S = 10
MAX_LIMIT = 10_000
_REALM = 'Bearer realm="mediaflow"'


class Caller(NamedTuple):
    """Who asks. None: it is as path and payload say."""

    user_id: str | None = None
    device_id: str | None = None
    limit: int | None = None


class Identity:
    """Tells who asks, by the ``Authorization`` headers of a request.

    Attributes:
        anybody: Whoever asks, where nobody has to say who they are; else None.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the keys.

        Raises:
            SettingsError: They are not what the settings say.
        """
        self._settings = settings
        self._keys = Keys(settings) if settings.jwt_algorithms else None
        self.anybody = Caller() if self._keys is None and not settings.api_token else None

    async def caller(self, authorization: Sequence[str]) -> Caller:
        """Return who asks.

        Raises:
            Refusal: 401, nobody who may.
            KeysAway: It cannot be told now.
        """
        if self.anybody is not None:
            return self.anybody
        given = _token(authorization)
        if self._is_api_token(given):
            return Caller()
        if self._keys is None:
            raise _unauthorized("the token is not that of MEDIAFLOW_API_TOKEN", known=True)
        return self._caller(await self._claims(given, self._keys))

    def require_api_token(self, authorization: Sequence[str]) -> None:
        """Refuse who does not have the API token, as soon as any authentication is configured.

        Raises:
            Refusal: 401.
        """
        if self.anybody is not None:
            return
        if not self._settings.api_token:
            raise _unauthorized("limits need the API token, and none is set: set MEDIAFLOW_API_TOKEN")
        if not self._is_api_token(_token(authorization)):
            raise _unauthorized("limits need the token of MEDIAFLOW_API_TOKEN, not a user's", known=True)

    def _is_api_token(self, given: str) -> bool:
        return bool(self._settings.api_token) and auth.same(given, self._settings.api_token)

    async def _claims(self, token: str, keys: Keys) -> dict[str, Any]:
        settings = self._settings
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in settings.jwt_algorithms:
                raise _unauthorized(
                    f"the token's alg is {str(header.get('alg'))[:20]!r}: "
                    f"{', '.join(settings.jwt_algorithms)} are accepted",
                    known=True,
                )
            failure: Exception = jwt.InvalidTokenError("no key of ours has the key id and kind that it names")
            for key in await keys.matching(header):
                try:
                    return jwt.decode(
                        token,
                        key,
                        algorithms=list(settings.jwt_algorithms),
                        audience=settings.jwt_audience or None,
                        issuer=settings.jwt_issuer or None,
                        leeway=CLOCK_LEEWAY_S,
                        options={"verify_aud": bool(settings.jwt_audience), "verify_sub": False},
                    )
                except jwt.InvalidSignatureError as error:
                    failure = error
            raise failure
        except (jwt.PyJWTError, ValueError) as error:
            raise _unauthorized(f"the token is not valid: {error}", known=True) from None

    def _caller(self, claims: dict[str, Any]) -> Caller:
        settings = self._settings
        user = _text(claims, settings.jwt_user_claim)
        if user is None:
            raise _unauthorized(f"the token has no claim {settings.jwt_user_claim!r}, the user", known=True)
        limit = claims.get(settings.jwt_limit_claim)
        if limit is not None and (type(limit) is not int or not 0 <= limit <= MAX_LIMIT):
            raise _unauthorized(
                f"the claim {settings.jwt_limit_claim!r} is {str(limit)[:40]!r}: 0 to {MAX_LIMIT} is meant",
                known=True,
            )
        return Caller(user, _text(claims, settings.jwt_device_claim), limit)


def _text(claims: dict[str, Any], name: str) -> str | None:
    found = claims.get(name) if name else None
    if found is None:
        return None
    if type(found) is int:
        found = str(found)  # many systems number their users
    if not isinstance(found, str) or not 1 <= len(found) <= 256:
        raise _unauthorized(f"the claim {name!r} is no text of 1 to 256 characters", known=True)
    return found


def _token(authorization: Sequence[str]) -> str:
    token = auth.bearer(authorization[0]) if len(authorization) == 1 else None
    if not token:
        raise _unauthorized("this needs the header Authorization: Bearer with a token, once")
    return token


def _unauthorized(detail: str, *, known: bool = False) -> Refusal:
    challenge = f'{_REALM}, error="invalid_token"' if known else _REALM
    return Refusal(401, detail, headers={"WWW-Authenticate": challenge})
