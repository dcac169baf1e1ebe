"""Whether an instance wants a call that it is offered: asks the user's hook, and turns whatever comes of it into words.

Invariants: nobody waits longer than :data:`ANSWER_WITHIN_S` for the hook, and a hook that fails refuses the call and
nothing else. A call that was accepted is not asked about again when its request is repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

log: Any = structlog.get_logger("mediaflow.instance")

ANSWER_WITHIN_S = 1.0
"""Within the instance's own answer, which the balancer waits for."""

MAX_REASON_LENGTH = 200


class CallRefused(Exception):
    """An instance does not want a call; raise it from ``@app.on_call`` to say so.

    Attributes:
        reason: For people: why.
        final: No instance will want it: the client is told so (403), and no other instance is asked.
    """

    def __init__(self, reason: str = "the instance does not want this call", *, final: bool = False) -> None:
        """Refuse with a reason."""
        self.reason = reason.encode(errors="backslashreplace").decode()[:MAX_REASON_LENGTH]
        self.final = final
        super().__init__(self.reason)


class IncomingCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that an instance may accept or refuse.

    Attributes:
        metadata: What ``POST /calls/{callId}`` was given, a JSON object.
        instance_id: The instance that is asked.
        free_slots: Slots that it has free for this call and others.
        account: Whom the call counts for, None for nobody.
        cause: ``created`` for a new call; else why its session needs an owner: ``takeover``, ``handoff`` or ``retry``.
    """

    call_id: str
    metadata: dict[str, Any]
    instance_id: str
    free_slots: int
    account: str | None = None
    cause: str = "created"


OnCall = Callable[[IncomingCall], Awaitable[bool | str | None]]
"""What a user writes: a coroutine function that returns True or None to accept a call, else False or a reason."""


async def ask(hook: OnCall, call: IncomingCall) -> None:
    """Ask the hook about a call; return if it is accepted.

    Raises:
        CallRefused: It is not.
    """
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            answer: object = await hook(call)
    except CallRefused:
        raise
    except (Exception, SystemExit) as error:
        log.exception("call.hook_failed", call=call.call_id, instance=call.instance_id)
        raise CallRefused(f"on_call of instance {call.instance_id} failed: {type(error).__name__}") from None
    match answer:
        case True | None:
            return
        case False:
            raise CallRefused(f"instance {call.instance_id} does not want this call")
        case str():
            raise CallRefused(answer)
        case _:
            log.error("call.hook_failed", call=call.call_id, reason=f"it returned {answer!r:.80}")
            raise CallRefused(f"on_call of instance {call.instance_id} returned neither bool nor text")
