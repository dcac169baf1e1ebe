"""A link to a Redis Cluster: each script goes to the primary that serves its keys' hash slot.

redis-py's own cluster client is not used: it ties no WAIT to the connection that wrote, its pipeline takes no
EVALSHA, and it offers no hook for new connections. With one link for each primary, what belongs to one of them
goes out in one pipeline, and each new connection tells us who is at its other end, as everywhere else.

A primary that does not answer holds up nobody but those who ask for its hash slots. While a hash slot moves, its keys
are at two places; a script with keys at both is refused there (TRYAGAIN), and asked again by :mod:`mediaflow.store.ask`
until the slot has arrived.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

from redis.exceptions import AskError, ClusterDownError, MovedError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from mediaflow.store.link import Call, Primary, Server
from mediaflow.store.single import SingleLink
from mediaflow.store.slots import Address, SlotMap, slot_of

T = TypeVar("T")

LOOK_TIMEOUT_S = 0.4
"""Longest wait for one server that is asked for itself: within one try of a request, another can be asked then."""

MOST_REDIRECTIONS = 5
"""More than one in a row only come about if slots move while we ask."""

_FAILURES = (RedisError, OSError, TimeoutError)
_SILENCE = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError, asyncio.CancelledError)


class ClusterLink:
    """A Redis Cluster, by one link to each of its primaries."""

    def __init__(
        self, seeds: Sequence[Address], server: Server, connect: Callable[[Address], SingleLink]
    ) -> None:
        """Begin with ``seeds``, any servers of the cluster; ``connect`` opens a link to one server."""
        self.server = server
        self._seeds = seeds
        self._connect = connect
        self._slots = SlotMap()
        self._links: dict[Address, SingleLink] = {}
        self._suspects: set[Address] = set()
        self._looking = asyncio.Lock()
        self._looks = 0

    def lane(self, call: Call) -> Hashable:
        """Return the primary that a script goes to."""
        return self._slots.primary(slot_of(call.keys[0]))

    async def ask(self, call: Call, timeout_s: float) -> Any:
        """Run one script, together with others that its primary is asked for at this moment."""
        address = self._slots.primary(slot_of(call.keys[0]))
        if address is not None and address not in self._suspects:
            try:
                return await self._ask(address, lambda link: link.ask(call, timeout_s))
            except AskError as redirection:
                self._note(redirection, address)
        async with asyncio.timeout(timeout_s):
            return (await self.run(call))[0]

    async def run(self, call: Call, *, replicas: int = 0, replicas_timeout_ms: int = 0) -> tuple[Any, int]:
        """Run one script, following the cluster's redirections."""

        async def ask(link: SingleLink, *, asking: bool) -> tuple[Any, int]:
            return await link.run(
                call, replicas=replicas, replicas_timeout_ms=replicas_timeout_ms, asking=asking
            )

        return await self._follow(slot_of(call.keys[0]), ask)

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Run several scripts, those of a primary in one pipeline."""
        replies: list[Any] = [None] * len(calls)

        async def ask(address: Address, indices: Sequence[int]) -> None:
            here = [calls[index] for index in indices]
            try:
                found = await self._ask(address, lambda link: link.run_many(here))
            except _FAILURES as error:
                found = [error] * len(indices)
            for index, reply in zip(indices, found, strict=True):
                replies[index] = (
                    await elsewhere(index, address, reply) if isinstance(reply, AskError) else reply
                )

        async def elsewhere(index: int, asked: Address, redirection: AskError) -> Any:
            self._note(redirection, asked)
            try:
                return (await self.run(calls[index]))[0]
            except _FAILURES as error:
                return error

        groups = await self._by_primary([slot_of(call.keys[0]) for call in calls])
        await asyncio.gather(*(ask(address, indices) for address, indices in groups.items()))
        return replies

    async def commands(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run reading commands, those of a primary in one pipeline."""
        replies: list[Any] = [None] * len(commands)

        async def ask(address: Address, indices: Sequence[int]) -> None:
            here = [commands[index] for index in indices]
            try:
                found = await self._ask(address, lambda link: link.commands(here))
            except AskError as redirection:
                self._note(redirection, address)
                found = [await self._command(command) for command in here]
            for index, reply in zip(indices, found, strict=True):
                replies[index] = reply

        groups = await self._by_primary([slot_of(command[1]) for command in commands])
        asked = (ask(address, indices) for address, indices in groups.items())
        for failure in await asyncio.gather(*asked, return_exceptions=True):
            if failure is not None:
                raise failure
        return replies

    async def ping(self) -> None:
        """Learn who serves which slots, and reach any primary; each that answers is asked who it is if it is new."""
        await self._look()

        async def reach(address: Address) -> None:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                await self._ask(address, lambda link: link.ping())

        found = await asyncio.gather(*map(reach, self._slots.primaries()), return_exceptions=True)
        failures = [one for one in found if isinstance(one, BaseException)]
        if failures and len(failures) == len(found):
            raise failures[0]

    def primaries(self) -> list[Primary]:
        """Return them by address."""
        return [
            Primary(str(address), primary.command)
            for address in self._slots.primaries()
            for primary in self._link(address).primaries()
        ]

    def pubsub(self) -> Any:
        """Return a PubSub on any primary: PUBLISH reaches all servers of a cluster.

        When a failover puts another in its place, its connections are closed, this one among them.
        """
        primaries = self._slots.primaries()
        answering = [address for address in primaries if address not in self._suspects]
        if not primaries:
            raise RedisClusterException("no server of the cluster has been reached yet")
        return self._link(random.choice(answering or primaries)).pubsub()  # noqa: S311

    async def close(self) -> None:
        """Close all connections."""
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()

    def holds(self, address: Address) -> bool:
        """Whether a server is still one that we ask."""
        return address in self._links

    # -- whom to ask ------------------------------------------------------------------------------

    def _link(self, address: Address) -> SingleLink:
        if address not in self._links:
            self._links[address] = self._connect(address)
        return self._links[address]

    async def _ask(self, address: Address, ask: Callable[[SingleLink], Awaitable[T]]) -> T:
        """Ask one server; who does not answer is suspected of having been replaced."""
        try:
            answer = await ask(self._link(address))
        except _SILENCE:
            self._suspects.add(address)
            raise
        self._suspects.discard(address)
        return answer

    async def _follow(self, slot: int, ask: Callable[..., Awaitable[T]]) -> T:
        """Ask the primary of a hash slot, or whom it sends us to."""
        address, asking = await self._primary(slot), False
        for _ in range(MOST_REDIRECTIONS):
            try:
                return await self._ask(address, lambda link: ask(link, asking=asking))  # noqa: B023 - awaited here
            except AskError as redirection:
                self._note(redirection, address)
                address = _target(redirection, address)
                asking = not isinstance(redirection, MovedError)
        raise ClusterDownError(f"CLUSTERDOWN hash slot {slot} was moved on {MOST_REDIRECTIONS} times")

    async def _command(self, command: tuple[Any, ...]) -> Any:
        async def ask(link: SingleLink, *, asking: bool) -> Any:
            return (await link.commands([command], asking=asking))[0]

        return await self._follow(slot_of(command[1]), ask)

    def _note(self, redirection: AskError, asked: Address) -> None:
        """Remember where a hash slot has moved to; one that is on its way still belongs where it was."""
        if isinstance(redirection, MovedError):
            self._slots.move(redirection.slot_id, _target(redirection, asked))

    async def _by_primary(self, slots: Sequence[int]) -> dict[Address, list[int]]:
        """Return the indices of what belongs to each primary."""
        groups: dict[Address, list[int]] = {}
        for index, slot in enumerate(slots):
            groups.setdefault(await self._primary(slot), []).append(index)
        return groups

    async def _primary(self, slot: int) -> Address:
        address = self._slots.primary(slot)
        if address is None or address in self._suspects:
            await self._look()
            address = self._slots.primary(slot)
        if address is None:
            raise ClusterDownError(f"CLUSTERDOWN nobody serves hash slot {slot}")
        return address

    async def _look(self) -> None:
        """Ask around who serves which slots; whoever comes while somebody asks is content with that answer.

        Raises:
            redis-py's exceptions: Nobody answers.
        """
        looks = self._looks
        async with self._looking:
            if self._looks != looks:
                return
            before = set(self._slots.primaries())
            failure: Exception = RedisClusterException("no server of the cluster answered in time")
            for address in self._whom_to_ask():
                before.add(address)
                try:
                    async with asyncio.timeout(LOOK_TIMEOUT_S):
                        (reply,) = await self._ask(
                            address, lambda link: link.commands([("CLUSTER", "SLOTS")])
                        )
                except TimeoutError:
                    continue
                except _FAILURES as error:
                    failure = error
                    continue
                self._slots.read(reply, address)
                self._looks += 1
                break
            else:
                raise failure
            await self._dismiss(before - set(self._slots.primaries()))

    def _whom_to_ask(self) -> list[Address]:
        """Return all servers that we know, those first that probably answer."""
        known = self._slots.primaries()
        random.shuffle(known)
        known += [seed for seed in self._seeds if seed not in known]
        return sorted(known, key=lambda address: address in self._suspects)

    async def _dismiss(self, addresses: set[Address]) -> None:
        """Close the connections to who serves nothing any more; should it come back, it is somebody new."""
        self._suspects -= addresses
        for address in addresses:
            self.server.forget(str(address))
            link = self._links.pop(address, None)
            if link is not None:
                with contextlib.suppress(*_FAILURES):
                    await link.close()


def _target(redirection: Any, asked: Address) -> Address:
    """Return whom a redirection names; redis-py gives its parts no types. An open host means that of who was asked."""
    return Address(redirection.host or asked.host, redirection.port)
