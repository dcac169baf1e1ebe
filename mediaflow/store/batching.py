"""Gathers what is asked for within one turn of the event loop into one request.

There is no background task: whoever comes first waits for company, and then asks for all.
Should it be cancelled meanwhile, the others ask again; requests may be repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from mediaflow.store.records import StoreUnavailable

I = TypeVar("I")  # noqa: E741 - item
R = TypeVar("R")


LARGEST_BATCH = 2000
"""Items of one batch at most: a request that takes longer than its deadline would be asked for again as a whole."""


class _Abandoned(Exception):
    """The one who asked for all was cancelled; nothing is known of the request."""


class _Batch(Generic[I, R]):
    """Items that will be asked for together."""

    def __init__(self) -> None:
        self.items: list[I] = []
        self.futures: list[asyncio.Future[R]] = []

    def fail(self, error: Exception) -> None:
        """Hand everyone who waits the same error."""
        for future in self.futures:
            if not future.done():
                future.set_exception(error)
                future.exception()  # marks it as seen: who waited may be gone


class Gatherer(Generic[I, R]):
    """Turns single requests into batches for ``flush``, which answers items in their order."""

    def __init__(
        self,
        flush: Callable[[Sequence[I], float], Awaitable[Sequence[R | Exception]]],
        largest: int = LARGEST_BATCH,
    ) -> None:
        """``flush`` gets up to ``largest`` items and a time-out in seconds (the first caller's).

        An exception among its results is raised to who asked for that item.
        """
        self._flush = flush
        self._largest = largest
        self._open: _Batch[I, R] | None = None

    async def submit(self, item: I, timeout_s: float) -> R:
        """Have ``item`` asked for with the next batch, in ``timeout_s`` seconds.

        Raises:
            StoreUnavailable: There was no answer in time; it may have happened.
        """
        try:
            async with asyncio.timeout(timeout_s + 0.5):
                while True:
                    try:
                        return await self._once(item, timeout_s)
                    except _Abandoned:
                        continue
        except TimeoutError:
            raise StoreUnavailable("Redis did not answer in time") from None

    async def _once(self, item: I, timeout_s: float) -> R:
        leads = self._open is None
        batch = self._open = self._open or _Batch[I, R]()
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        batch.items.append(item)
        batch.futures.append(future)
        if len(batch.items) >= self._largest:
            self._open = None
        if leads:
            await self._lead(batch, timeout_s)
        return await future

    async def _lead(self, batch: _Batch[I, R], timeout_s: float) -> None:
        try:
            await asyncio.sleep(0)
            if self._open is batch:
                self._open = None
            results = await self._flush(batch.items, timeout_s)
        except asyncio.CancelledError:
            if self._open is batch:
                self._open = None
            batch.fail(_Abandoned())
            raise
        except Exception as error:  # noqa: BLE001 - handed to each who waits for it, the leader included
            batch.fail(error)
        else:
            for future, result in zip(batch.futures, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
