"""Where an instance asks its user's hook whether it wants a call; :mod:`mediaflow.runtime.oncall` says how."""

import msgspec

from mediaflow.runtime.account import seat_of
from mediaflow.runtime.oncall import IncomingCall, OnCall, ask
from mediaflow.runtime.placing import Placement
from mediaflow.runtime.premises import LOOK_TIMEOUT_S, Premises
from mediaflow.store import Claim, SessionRef


class Door:
    """Every call that is new here passes it, be it posted or assigned; without a hook it stands open."""

    def __init__(self, premises: Premises, hook: OnCall | None) -> None:
        """``hook`` is the user's, if there is one."""
        self._premises = premises
        self._hook = hook

    @property
    def is_guarded(self) -> bool:
        """Whether there is a hook to be asked."""
        return self._hook is not None

    async def ask_about_new(self, request: Placement) -> None:
        """Ask about a call that has no session yet; raises CallRefused if it is not wanted."""
        free_slots = self._premises.capacity.free
        await self._ask(request.call_id, request.metadata, "created", free_slots, request.account)

    async def ask_about_offered(self, claim: Claim) -> None:
        """Ask about a session that is offered, with a slot reserved; raises CallRefused if it is not wanted."""
        if self._hook is None:
            return
        ref = SessionRef(claim.call_id, claim.session_id)
        outline = await self._premises.store.outline(ref, timeout_s=LOOK_TIMEOUT_S)
        if outline is not None:
            seat = seat_of(outline.account)
            account = seat.account if seat else None
            # The slot that is reserved for it is free to it.
            free_slots = self._premises.capacity.free + 1
            await self._ask(claim.call_id, outline.metadata, outline.cause, free_slots, account)

    async def _ask(
        self, call_id: str, metadata: bytes, cause: str, free_slots: int, account: str | None
    ) -> None:
        if self._hook is None:
            return
        call = IncomingCall(
            call_id=call_id,
            metadata=msgspec.json.decode(metadata),
            instance_id=self._premises.registration.instance_id,
            free_slots=free_slots,
            account=account,
            cause=cause,
        )
        await ask(self._hook, call)
