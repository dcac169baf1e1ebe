"""Passes the wish to drain on to the instance that it is for.

The instance is looked up in Redis and asked at its own address, with the token: a message over pub/sub could be
anybody's. Deadlines nest: the store's and the courier's together are shorter than a client waits.
"""

from mediaflow.loadbalancer.courier import Answer, HttpCourier, NoAnswer, NotConnected
from mediaflow.store import Store
from mediaflow.web.calls import unknown_instance
from mediaflow.web.problems import Refusal, unavailable


class Drainer:
    """Drains instances by name."""

    def __init__(self, store: Store, courier: HttpCourier) -> None:
        """Look instances up in a store, and ask them by a courier; both stay the caller's."""
        self._store = store
        self._courier = courier

    async def drain(self, instance_id: str) -> Answer:
        """Have an instance drain, and return what it answered; of one that drains already, too.

        Raises:
            Refusal: 404, no live instance has this name; 503, it cannot be reached, or did not do it.
            StoreError: Redis does not say where it is.
        """
        live = {record.instance_id: record for record in await self._store.instances() if record.alive}
        if instance_id not in live:
            raise unknown_instance(instance_id, "alive")
        address = live[instance_id].address
        if not address:
            raise Refusal(
                503,
                f"the instance {instance_id} is embedded in a program and has no address: "
                "end that program, and it drains",
            )
        try:
            answer = await self._courier.drain(address, instance_id)
        except NotConnected as error:
            raise unavailable(
                f"the instance {instance_id} cannot be reached at {address}: {error}; if it is dead, its sessions "
                "are moved by themselves"
            ) from None
        except NoAnswer:
            raise unavailable(
                f"the instance {instance_id} did not answer at {address}; it may or may not drain: ask again"
            ) from None
        if answer.status not in (202, 404):
            raise unavailable(
                f"the instance {instance_id} answered the wish to drain with status {answer.status}"
                + (
                    ": balancer and instance need the same MEDIAFLOW_API_TOKEN"
                    if answer.status == 401
                    else ""
                )
            )
        return answer
