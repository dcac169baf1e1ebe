"""A cluster inside this process: real instances and a real watchdog over one store, no HTTP, no processes."""

import asyncio
import contextlib
import json
from collections.abc import Iterable
from typing import Any, Self

import msgspec

from harness.waiting import eventually
from mediaflow.api.messages import CallAnswer
from mediaflow.runtime.instance import Instance
from mediaflow.runtime.placing import Placement
from mediaflow.runtime.session import Handler
from mediaflow.settings import Settings
from mediaflow.store import Store
from mediaflow.watchdog import Watchdog


class Cluster:
    """Instances by id, and watchdogs. ``async with`` it: at the end all stop, without a drain."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self.instances: dict[str, Instance] = {}
        self._stack = contextlib.AsyncExitStack()
        self._tasks: asyncio.TaskGroup | None = None
        self._endless: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = await self._stack.enter_async_context(asyncio.TaskGroup())
        return self

    async def __aexit__(self, *failure: object) -> None:
        try:
            for instance in self.instances.values():
                await instance.abort()
            for task in self._endless:
                task.cancel()
        finally:
            await self._stack.__aexit__(*failure)

    async def instance(
        self, instance_id: str, handler: Handler, *, slots: int = 10, **settings: Any
    ) -> Instance:
        """Start an instance and wait until it is registered. The same id again is a restarted process."""
        own = msgspec.structs.replace(self.settings, instance_id=instance_id, slots=slots, **settings)
        instance = Instance(self.store, handler, own)
        await instance.__aenter__()
        self.instances[instance_id] = instance
        await eventually(lambda: instance.ready, 5, about=f"{instance_id} is ready")
        return instance

    async def watchdog(self) -> Watchdog:
        """Start a watchdog and wait until it watches."""
        assert self._tasks is not None
        watchdog = Watchdog(self.store, self.settings)
        self._endless.append(self._tasks.create_task(watchdog.run(), name="watchdog"))
        await eventually(lambda: watchdog.ready, 5, about="the watchdog watches")
        return watchdog

    async def submit(self, instance_id: str, call_id: str, metadata: Any = None, **more: Any) -> CallAnswer:
        """Place a call on one instance."""
        body = json.dumps(metadata or {}).encode()
        return await self.instances[instance_id].place(
            Placement(call_id=call_id, metadata=body, body_digest=body.hex(), **more)
        )

    async def owners(self, call_ids: Iterable[str]) -> dict[str, str]:
        """Return the owner of each of these calls that has one."""
        owned: dict[str, str] = {}
        for call_id in call_ids:
            call = await self.store.describe(call_id)
            for session in call.sessions if call else ():
                if session.state == "active":
                    owned[call_id] = session.instance_id
        return owned
