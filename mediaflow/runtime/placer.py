"""Whether a call may be placed on an instance: asks its state, the user's hook and the call's account, in this order.

Invariants: a call that is there was accepted, here or elsewhere, and is not asked about again. The place that a call
took among its account's streams is given up again if no session is made for it.
"""

import msgspec

from mediaflow.api.messages import CallAnswer
from mediaflow.limiter import StreamRefused, StreamThrottled
from mediaflow.runtime.account import Accounts
from mediaflow.runtime.door import Door
from mediaflow.runtime.maker import Maker
from mediaflow.runtime.oncall import CallRefused
from mediaflow.runtime.placing import Draining, KeyConflict, NoFreeSlot, Placement, QueueFull
from mediaflow.runtime.premises import Premises
from mediaflow.store import NotDurable, StoreUnavailable

REFUSALS: dict[type[Exception], str] = {
    NoFreeSlot: "no_free_slot",
    QueueFull: "queue_full",
    Draining: "draining",
    KeyConflict: "key_conflict",
    CallRefused: "unwanted",
    StreamRefused: "account_full",
    StreamThrottled: "account_throttled",
    StoreUnavailable: "store_unavailable",
    NotDurable: "store_unavailable",
}
"""Why a call is refused, as labels."""


class Placer:
    """Places calls on an instance, or says why it does not."""

    def __init__(self, premises: Premises, door: Door, accounts: Accounts, maker: Maker) -> None:
        """``maker`` makes the sessions of calls that may be placed."""
        self._premises = premises
        self._door = door
        self._accounts = accounts
        self._maker = maker

    async def place(self, request: Placement) -> CallAnswer:
        """Make a session for a call, or find the one it has; raises as :meth:`Instance.place` does."""
        try:
            return await self._place_or_refuse(request)
        except tuple(REFUSALS) as error:
            self._premises.meter.refusals.add(REFUSALS[type(error)])
            raise

    async def _place_or_refuse(self, request: Placement) -> CallAnswer:
        registration = self._premises.registration
        if registration.state in ("draining", "stopped"):
            raise Draining(
                f"instance {registration.instance_id} is {registration.state} and takes no new calls"
            )
        if not registration.incarnation:
            raise StoreUnavailable(registration.why_not_ready)
        if not self._door.is_guarded and request.account is None:
            return await self._maker.make(request)
        if request.idempotency_key is None:
            request = msgspec.structs.replace(request, idempotency_key=self._maker.made_up_key())
        return await self._maker.find(request) or await self._place_if_wanted(request)

    async def _place_if_wanted(self, request: Placement) -> CallAnswer:
        await self._door.ask_about_new(request)
        if request.account is None:
            return await self._maker.make(request)
        self._maker.expect_room(request)
        return await self._place_counted(request, request.account)

    async def _place_counted(self, request: Placement, account: str) -> CallAnswer:
        """Take a place for the call among its account's streams, and make its session."""
        key = request.idempotency_key or ""
        seat = await self._accounts.admit(account, request.call_id, request.metadata, key)
        try:
            # If Redis does not answer, the call may have been made: a repeated request finds the place again.
            made = await self._maker.make(msgspec.structs.replace(request, seat=seat))
        except (NoFreeSlot, QueueFull):
            await self._accounts.give_up(seat)
            raise
        if not made.created:
            await self._accounts.give_up(seat)
        elif made.state == "pending":
            self._premises.roll.keep_waiting(seat, request.call_id, made.session_id)
        return made
