"""Puts the parts together: :func:`open_store` is how every program comes by its store."""

from mediaflow.settings import Settings, SettingsError
from mediaflow.store.address import IllegalRedisUrl, open_link
from mediaflow.store.bus import Bus
from mediaflow.store.calls import Calls
from mediaflow.store.log import Log
from mediaflow.store.ownership import Ownership
from mediaflow.store.registry import Registry
from mediaflow.store.streams import Streams
from mediaflow.store.sweeping import Sweeping


class RedisStore(Ownership, Calls, Registry, Sweeping, Log, Bus, Streams):
    """The :class:`~mediaflow.store.interface.Store` over Redis; each part has its own module."""

    async def close(self) -> None:
        """Close all connections."""
        await self._asker.link.close()


async def open_store(settings: Settings) -> RedisStore:
    """Open the store that the settings name; it connects when it is first asked.

    Raises:
        SettingsError: ``redis_url`` cannot be understood.
    """
    try:
        link = open_link(settings.redis_url)
    except IllegalRedisUrl as error:
        raise SettingsError(str(error)) from None
    return RedisStore(link, settings)
