"""The store of streams: one script call a request, all data of a user under one hash tag.

Requests and answers are JSON objects, because a stream's attributes and the rules are of any shape.
"""

import hashlib
from typing import Any, cast

import msgspec

from mediaflow.store.link import Call
from mediaflow.store.part import Part
from mediaflow.store.scripts import load

STORE_TIMEOUT_S = 0.4
"""Within this a request is answered or Redis counts as away: players wait for it before they play."""


class Streams(Part):
    """Scripts on the streams of a user."""

    async def stream(
        self, script: str, user_id: str, request: dict[str, Any], *, timeout_s: float = STORE_TIMEOUT_S
    ) -> dict[str, Any]:
        """Run ``stream_<script>`` for a user; see the script for what goes in and out.

        Raises:
            StoreUnavailable: Redis did not answer in time; it may have happened.
        """
        call = Call(load(f"stream_{script}"), self._user_keys(user_id), [msgspec.json.encode(request)])
        reply = await self._asker.run(call, timeout_s=timeout_s)
        return cast("dict[str, Any]", msgspec.json.decode(reply))

    async def set_stream_limit(self, user_id: str, limit: int | None) -> None:
        """Set how many streams a user may play; None forgets it."""
        key = self._user_keys(user_id)[1]
        command = ("DEL", key) if limit is None else ("SET", key, limit)
        await self._asker.commands([command], timeout_s=STORE_TIMEOUT_S)

    async def shared_secret(self, name: str, proposal: bytes) -> bytes:
        """Return what the namespace holds under ``name``; the first proposal stays."""
        key = f"{self._keys.constants}:{name}"
        found = await self._asker.commands(
            [("SET", key, proposal, "NX"), ("GET", key)], timeout_s=STORE_TIMEOUT_S
        )
        return found[1]

    def _user_keys(self, user_id: str) -> list[str]:
        # A digest, because a user id may hold any character, braces included.
        tag = hashlib.blake2b(user_id.encode(), digest_size=16).hexdigest()
        prefix = f"{self._keys.namespace}:{{u{tag}}}:"
        return [prefix + "streams", prefix + "limit"]
