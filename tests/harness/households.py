"""Users with many streams, whose players do as a seed says."""

import random
from typing import Any

from mediaflow.limiter import StreamEnded, StreamRefused


class Household:
    """A user whose players do as they are told."""

    def __init__(self, limiter: Any, user_id: str) -> None:
        self.user_id = user_id
        self.key: str = limiter._store._user_keys(user_id)[0]
        self._limiter = limiter
        self._ids: list[str] = []

    async def do(self, step: tuple[str, int, dict[str, Any]]) -> tuple[Any, ...]:
        """Take a step; return all that the answer says and both users have in common."""
        what, number, told = step
        try:
            if what == "start":
                answer = await self._limiter.start(self.user_id, **told)
                self._ids.append(answer.stream_id)
                return what, answer.limit, answer.active
            stream_id = self._ids[number % len(self._ids)]
            if what == "beat":
                return what, (await self._limiter.heartbeat(self.user_id, stream_id)).active
            if what == "stop":
                return what, await self._limiter.stop(self.user_id, stream_id)
            told = {**told, "replaces": stream_id}
            answer = await self._limiter.start(self.user_id, **told)
            self._ids.append(answer.stream_id)
        except StreamRefused as refused:
            found = [
                (one.policy, one.rule, one.threshold, len(one.termination_codes)) for one in refused.advice
            ]
            return "refused", refused.limit, refused.active, found
        except StreamEnded as ended:
            return "ended", ended.reason
        return what, answer.active


def steps(number: int, draw: random.Random) -> list[tuple[str, int, dict[str, Any]]]:
    kinds = draw.choices(["start", "beat", "stop", "replace"], [6, 3, 2, 1], k=number)
    kinds[:60] = ["start"] * 60
    return [
        (
            kind,
            draw.randrange(10_000),
            {
                "device_id": f"device-{draw.randrange(12)}",
                "metadata": {
                    "channel": draw.randrange(3),
                    "kind": draw.choice(["live", "film"]),
                    "room": draw.choice(["a", "b:c", "b"]),
                },
                "on_limit": draw.choice(["reject", "reject", "stop_oldest"]),
            },
        )
        for kind in kinds
    ]
