"""MediaApp, the face of the product: a handler and settings, to be embedded or run as a program."""

import asyncio
import inspect
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import structlog

from mediaflow import settings as settings_module
from mediaflow.api.messages import CallAnswer
from mediaflow.api.metadata import NO_METADATA, encode_metadata
from mediaflow.core import names
from mediaflow.runtime.hooks import Hooks
from mediaflow.runtime.instance import Instance
from mediaflow.runtime.load import Load
from mediaflow.runtime.oncall import OnCall
from mediaflow.runtime.placing import Placement
from mediaflow.runtime.session import Handler
from mediaflow.settings import Settings
from mediaflow.store import StoreUnavailable, open_store
from mediaflow.telemetry import logs
from mediaflow.watchdog.watchdog import Watchdog

READY_TIMEOUT_S = 10.0
MAX_METADATA_BYTES = 64 * 1024


class MediaApp:
    """A handler and settings.

    Embedded in any asyncio program, ``async with app:`` runs an instance without HTTP, and a watchdog beside it, so
    that sessions are moved and retried without any other process; with ``watchdog=False`` it relies on others.
    As a program, ``app.run()`` is ``python -m mediaflow.worker`` with this handler.
    """

    def __init__(
        self,
        *,
        slots: int | None = None,
        redis: str | None = None,
        watchdog: bool = True,
        load: Load | None = None,
        **settings: Any,
    ) -> None:
        """Take settings; what is not given here comes from the environment, then from the defaults.

        Args:
            slots: Sessions that one instance runs at most.
            redis: ``redis://…`` or another URL of the README; ``memory://`` needs no Redis, within one process.
            watchdog: Whether ``async with`` runs a watchdog as well.
            load: Says how busy this instance is; as :meth:`load` registers it.
            settings: Any other setting by name (``lease_ttl=5``).

        Raises:
            SettingsError: A setting is unknown, of the wrong kind, or contradicts another.
        """
        self.settings_flags: Mapping[str, Any] = {"slots": slots, "redis_url": redis, **settings}
        self.settings: Settings = settings_module.load(self.settings_flags, os.environ, spell=str)
        self.handler: Handler | None = None
        self.hooks = Hooks(load)
        self._with_watchdog = watchdog
        self._instance: Instance | None = None
        self._store: Any = None
        self._stack: AsyncExitStack | None = None

    def session(self, handler: Handler) -> Handler:
        """Register the coroutine function that processes a session; use it as a decorator.

        Raises:
            TypeError: It is not a coroutine function, or there is one already.
        """
        if not inspect.iscoroutinefunction(handler):
            raise TypeError(f"@app.session needs an 'async def' function, not {handler!r}")
        if self.handler is not None:
            raise TypeError("this app has a session handler already: an app processes calls in one way")
        self.handler = handler
        return handler

    def load(self, measure: Load) -> Load:
        """Register what says how busy this instance is, from 0 (idle) to 1 (full); use it as a decorator.

        It is asked once a second: a coroutine function, or a plain one, which runs in a thread. Above the setting
        ``load_threshold`` the instance takes nothing new, as if it had no free slot; what runs goes on.

        Raises:
            TypeError: It is no function, or there is one already.
        """
        if not callable(measure):
            raise TypeError(f"@app.load needs a function that returns 0 to 1, not {measure!r}")
        if self.hooks.load is not None:
            raise TypeError("this app has a load already: an instance has one")
        self.hooks = self.hooks._replace(load=measure)
        return measure

    def on_call(self, hook: OnCall) -> OnCall:
        """Register the coroutine function that accepts or refuses a call before it takes a slot here; a decorator.

        It is given an :class:`~mediaflow.IncomingCall`, and returns True or None to accept it, False or a reason (text)
        to refuse it. A refused call is offered to other instances, and if none wants it, the client is answered 503
        with the reason; ``raise CallRefused(reason, final=True)`` spares the others and answers 403. A session that
        needs a new owner (``call.cause``) is asked about likewise, and a refused one goes on waiting. The hook has a
        second; if it takes longer, or raises, the call is refused.

        Raises:
            TypeError: It is not a coroutine function, or there is one already.
        """
        if not inspect.iscoroutinefunction(hook):
            raise TypeError(f"@app.on_call needs an 'async def' function, not {hook!r}")
        if self.hooks.on_call is not None:
            raise TypeError("this app has an on_call hook already: an app accepts calls in one way")
        self.hooks = self.hooks._replace(on_call=hook)
        return hook

    @property
    def instance(self) -> Instance:
        """The running instance.

        Raises:
            RuntimeError: The app is not running.
        """
        if self._instance is None:
            raise RuntimeError("the app is not running: use it inside 'async with app:'")
        return self._instance

    async def __aenter__(self) -> Self:
        """Start, and wait until Redis knows this instance.

        Raises:
            RuntimeError: There is no handler, or the app is running already.
            StoreUnavailable: Redis could not be reached within 10 s.
        """
        if self.handler is None:
            raise RuntimeError("the app has no handler: decorate a coroutine function with @app.session")
        if self._stack is not None:
            raise RuntimeError("the app is running already")
        if not structlog.is_configured():
            # Left alone, structlog prints every debug line, and tracebacks with all local variables, on stdout.
            logs.configure_ours(self.settings.log_level, self.settings.log_format)
        async with AsyncExitStack() as stack:
            self._store = await open_store(self.settings)
            stack.push_async_callback(self._store.close)
            await self._store.check(timeout_s=READY_TIMEOUT_S)
            if self._with_watchdog:
                await stack.enter_async_context(_running(Watchdog(self._store, self.settings)))
            instance = Instance(self._store, self.handler, self.settings, hooks=self.hooks)
            self._instance = await stack.enter_async_context(instance)
            await _until_ready(instance)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain: sessions are given to other instances, or stay pending until there is one."""
        stack, self._stack, self._instance = self._stack, None, None
        if stack is not None:
            await stack.aclose()

    async def start_call(
        self,
        call_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        account: str | None = None,
    ) -> CallAnswer:
        """Start a call here, or find the session it has.

        Args:
            call_id: 1 to 128 characters of ``A-Z a-z 0-9 . _ ~ : @ + -``.
            metadata: A JSON object for the handler, 64 KiB at most.
            idempotency_key: Repeat a call that may have been started under the same key.
            account: Count the call as one stream of the user of that name, by the settings ``stream_limit`` and
                ``stream_rules``, for as long as it lasts.

        Returns:
            What ``POST /calls/{callId}`` answers.

        Raises:
            ValueError: The call id or key is not legal, or the metadata are too large.
            TypeError: The metadata do not encode as a JSON object.
            NoFreeSlot, QueueFull, Draining, KeyConflict, CallRefused, StreamRefused, StreamThrottled,
                StoreUnavailable: See :meth:`Instance.place`.
        """
        names.check_call_id(call_id)
        if idempotency_key is not None:
            names.check_idempotency_key(idempotency_key)
        encoded, digest = NO_METADATA if metadata is None else encode_metadata(metadata)
        if len(encoded) > MAX_METADATA_BYTES:
            raise ValueError(f"metadata of {len(encoded)} bytes of JSON: at most {MAX_METADATA_BYTES} fit")
        return await self.instance.place(
            Placement(
                call_id=call_id,
                metadata=encoded,
                body_digest=digest,
                idempotency_key=idempotency_key,
                account=account,
            )
        )

    async def end_call(self, call_id: str) -> bool:
        """End a call, wherever it runs; False if it is not known. Its coroutine is cancelled."""
        return await self.instance.end(names.check_call_id(call_id), "ended by request")

    def run(self) -> None:
        """Run as a program: ``python -m mediaflow.worker`` with this handler; returns after SIGTERM or Ctrl-C.

        Raises:
            RuntimeError: There is no handler.
        """
        from mediaflow.worker import run_program  # the HTTP side is not needed to embed an app

        if self.handler is None:
            raise RuntimeError("the app has no handler: decorate a coroutine function with @app.session")
        run_program(self.handler, self.settings_flags, self.hooks)


class _running:  # noqa: N801 - used like a function
    """A watchdog as a context: its task is cancelled and awaited on leaving."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._watchdog.run(), name="watchdog")

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


async def _until_ready(instance: Instance) -> None:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            await instance.wait_ready()
    except TimeoutError:
        raise StoreUnavailable(instance.problem) from None
