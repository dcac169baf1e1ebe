"""Charges for each second of a call; a handler with an effect that must not happen twice.

``test_biller.py`` beside it puts it through kills, pauses and network partitions, in virtual time::

    pytest examples/test_biller.py
"""

import asyncio
from typing import Protocol

from mediaflow import Session


class Bank(Protocol):
    """Where the money is."""

    async def charge(self, session: Session, second: int) -> None:
        """Charge for one second of a call."""
        ...


class Biller:
    """The right way: it asks whether the call is still its own, right before each effect."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    async def __call__(self, session: Session) -> None:
        second = (session.resume or {"second": 0})["second"]
        while True:
            await asyncio.sleep(1)
            second += 1
            session.check()
            await self._bank.charge(session, second)
            await session.checkpoint({"second": second})


class CarelessBiller(Biller):
    """The same without ``session.check()``: it works on every sunny day."""

    async def __call__(self, session: Session) -> None:
        second = (session.resume or {"second": 0})["second"]
        while True:
            await asyncio.sleep(1)
            second += 1
            await self._bank.charge(session, second)
            await session.checkpoint({"second": second})
